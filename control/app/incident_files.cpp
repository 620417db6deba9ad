#include "control/app/incident_files.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <charconv>
#include <filesystem>

#include "control/api/json.h"
#include "control/app/durable_file.h"

namespace detour::app {

namespace {

constexpr std::string_view kPrefix = "incident-";
constexpr std::string_view kSuffix = ".json";

/// 0: not one of ours.
std::uint64_t number_of(const std::string& name) {
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return 0;
    const char* begin = name.data() + kPrefix.size();
    const char* end = name.data() + name.size() - kSuffix.size();
    std::uint64_t number = 0;
    const auto [at, error] = std::from_chars(begin, end, number);
    return error == std::errc{} && at == end ? number : 0;
}

}  // namespace

IncidentFiles::IncidentFiles(boost::asio::io_context& io, std::string folder, DurableWriter::Write write,
                             Report report)
    : io_(io), folder_(std::move(folder)), write_(std::move(write)), report_(std::move(report)) {}

std::string IncidentFiles::path_of(std::uint64_t number) const {
    return fmt::format("{}/{}{:06}{}", folder_, kPrefix, number, kSuffix);
}

std::vector<control::Incident> IncidentFiles::read() {
    std::vector<control::Incident> result;
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) {
        report_(
            {api::ErrorCode::kSystem, "making the folder for incidents", folder_ + ": " + error.message()});
        return result;
    }
    for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
        const std::uint64_t number = number_of(entry.path().filename().string());
        if (number == 0) continue;
        const std::string path = entry.path().string();
        const auto content = read_file(path);
        auto incident = content ? control::from_json<control::Incident>(*content)
                                : api::Result<control::Incident>(tl::unexpect, content.error());
        if (incident && incident->number == number) {
            result.push_back(std::move(*incident));
            continue;
        }
        report_({api::ErrorCode::kInvalidArgument, "reading " + path,
                 (incident ? std::string("it holds another incident") : incident.error().what) +
                     "; it was set aside as " + path + ".damaged"});
        std::error_code ignored;
        std::filesystem::rename(path, path + ".damaged", ignored);
        control::Incident lost;
        lost.number = number;
        lost.text = "its file was damaged and set aside";
        lost.closed = control::Time{};
        result.push_back(std::move(lost));
    }
    return result;
}

void IncidentFiles::save(IncidentBook& book) {
    for (const std::uint64_t number : book.take_changed()) {
        const control::Incident* incident = book.find(number);
        if (incident == nullptr) continue;
        auto& writer = writers_[number];
        if (!writer) writer = std::make_unique<DurableWriter>(io_, pool_, path_of(number), write_);
        writer->write(control::to_json(*incident) + "\n", [this](const api::Result<void>& written) {
            if (!written) report_(written.error());
        });
    }
    for (const std::uint64_t number : book.take_forgotten()) {
        // After what is being written to it: one thread does both.
        boost::asio::post(pool_, [path = path_of(number)] {
            std::error_code ignored;
            std::filesystem::remove(path, ignored);
        });
    }
    // One that is closed and written needs no writer any more.
    std::erase_if(writers_, [&](const auto& entry) {
        const control::Incident* incident = book.find(entry.first);
        return entry.second->idle() && (incident == nullptr || incident->closed);
    });
}

void IncidentFiles::stop(const IncidentBook& book) {
    pool_.join();
    // The loop has ended: nobody starts the next write of a writer that is busy.
    for (const auto& [number, writer] : writers_) {
        const control::Incident* incident = book.find(number);
        if (writer->idle() || incident == nullptr) continue;
        (void)write_(path_of(number), control::to_json(*incident) + "\n");
    }
    writers_.clear();
}

}  // namespace detour::app
