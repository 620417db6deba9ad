#include "control/app/config_trial.h"

#include <filesystem>

#include "control/app/durable_file.h"
#include "control/app/state_text.h"

namespace detour::app {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kKind = "detour-trial";
constexpr const char* kBefore = "/config-before";
constexpr const char* kTrial = "/config-trial";

/// A name inside the folder that is to be read as one configuration again.
std::string kept_name(const config::Document& document, std::size_t count) {
    return count == 1 ? "detour.toml" : document.name;
}

}  // namespace

Documents read_config_text(const std::string& path) {
    config::Mistakes mistakes;
    Documents documents = config::read_documents(path, mistakes);
    return mistakes.empty() ? documents : Documents{};
}

std::uint64_t text_mark(const Documents& documents) {
    if (documents.empty()) return 0;
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    const auto mix = [&hash](std::string_view text) {
        for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
        hash = (hash ^ text.size()) * 0x100000001b3ULL;
    };
    for (const config::Document& document : documents) {
        mix(kept_name(document, documents.size()));
        mix(document.text);
    }
    return hash;
}

std::string encode(const Trial& trial) {
    TextWriter out(kKind);
    out.line("trial", trial.text, trial.until.value.count(), trial.taken_back);
    return out.finish();
}

api::Result<Trial> decode_trial(std::string_view text) {
    auto lines = read_lines(text, kKind);
    if (!lines) return tl::unexpected(lines.error());
    Trial trial;
    const bool one = lines->size() == 1 && lines->front().name() == "trial";
    if (one) {
        LineReader& line = lines->front();
        trial.text = line.number<std::uint64_t>();
        trial.until.value = health::nanoseconds{line.number<std::int64_t>()};
        trial.taken_back = line.flag();
    }
    if (!one || !lines->front().ok()) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading the configuration's trial",
                         "its line is not understood");
    }
    return trial;
}

api::Result<std::optional<Trial>> read_trial(const std::string& state_dir) {
    const auto content = read_file(state_dir + kTrial);
    if (!content && content.error().code == api::ErrorCode::kNotFound) return std::nullopt;
    if (!content) return tl::unexpected(content.error());
    const auto trial = decode_trial(*content);
    if (!trial) return tl::unexpected(trial.error());
    return *trial;
}

api::Result<void> begin_trial(const std::string& state_dir, const Documents& before, const Trial& trial) {
    const auto failed = [&](const std::string& what) {
        return api::fail(api::ErrorCode::kSystem, "keeping the configuration before", what);
    };
    if (before.empty()) return failed("its text is not known");
    std::error_code error;
    const std::string folder = state_dir + kBefore;
    fs::remove_all(folder, error);
    for (const config::Document& document : before) {
        const fs::path path = fs::path(folder) / kept_name(document, before.size());
        fs::create_directories(path.parent_path(), error);
        if (error) return failed(path.string() + ": " + error.message());
        if (auto written = write_durably(path.string(), document.text); !written) return written;
    }
    // Files in folders: their folders' names have to last as well.
    if (auto synced = sync_folder(folder); !synced) return synced;
    for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
        if (!entry.is_directory(error)) continue;
        if (auto synced = sync_folder(entry.path().string()); !synced) return synced;
    }
    if (error) return failed(folder + ": " + error.message());
    return write_trial(state_dir, trial);
}

api::Result<void> write_trial(const std::string& state_dir, const Trial& trial) {
    return write_durably(state_dir + kTrial, encode(trial));
}

api::Result<void> end_trial(const std::string& state_dir) {
    // The trial first: what is left without it means nothing.
    if (auto removed = remove_durably(state_dir + kTrial); !removed) return removed;
    std::error_code ignored;
    fs::remove_all(state_dir + kBefore, ignored);
    return {};
}

std::string config_before(const std::string& state_dir) {
    return state_dir + kBefore;
}

StartConfig load_for_start(const std::string& path, health::WallTime now) {
    StartConfig start{config::load(path), read_config_text(path), std::nullopt, {}};
    if (!start.loaded) return start;
    const std::string& folder = start.loaded->control.state_dir;
    const auto trial = read_trial(folder);
    if (!trial) {
        start.alarm = trial.error().to_string() + "; the configuration on disk is in force";
        return start;
    }
    if (!*trial) return start;
    if ((*trial)->text != text_mark(start.text)) {
        // The disk holds another one by now: whoever wrote it wants it. What can't be removed means no more
        // at the next start than at this one.
        (void)end_trial(folder);
        return start;
    }
    start.trial = *trial;
    if (!start.trial->taken_back && start.trial->until > now) return start;
    auto before = config::load(config_before(folder));
    if (!before) {
        start.alarm = "the configuration was not confirmed in time, but the one before can't be read: " +
                      before.error().front().to_string();
        return start;
    }
    start.loaded = std::move(before);
    start.text = read_config_text(config_before(folder));
    start.alarm = "the configuration on disk was not confirmed in time: the one before is in force";
    if (!start.trial->taken_back) {
        start.trial->taken_back = true;
        (void)write_trial(folder, *start.trial);
    }
    return start;
}

}  // namespace detour::app
