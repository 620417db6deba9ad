#include "config/files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace detour::config {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunk = 65536;
constexpr std::string_view kMain = "detour.toml";

bool is_candidate(const fs::directory_entry& entry) {
    std::error_code ignored;
    const std::string name = entry.path().filename();
    return !name.starts_with('.') && name.ends_with(".toml") && entry.is_regular_file(ignored);
}

/// Appends the *.toml of one folder; subfolders are left in `folders` when it is given.
void list_folder(const fs::path& root, const fs::path& below, std::vector<std::string>& names,
                 std::vector<fs::path>* folders, Mistakes& mistakes) {
    std::error_code error;
    fs::directory_iterator entries(root / below, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
        const fs::path name = entries->path().filename();
        std::error_code ignored;
        if (is_candidate(*entries)) names.push_back((below / name).generic_string());
        if (folders == nullptr || name.string().starts_with('.') || !entries->is_directory(ignored)) continue;
        folders->push_back(below / name);
    }
    if (error) {
        mistakes.add({(root / below).string(), 0, 0}, error.message(), "a folder that can be read");
    }
}

std::vector<std::string> list_files(const fs::path& root, Mistakes& mistakes) {
    std::vector<std::string> names;
    std::vector<fs::path> folders;
    list_folder(root, "", names, &folders, mistakes);
    for (const fs::path& folder : folders) list_folder(root, folder, names, nullptr, mistakes);
    std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
        return std::pair(a != kMain, std::string_view(a)) < std::pair(b != kMain, std::string_view(b));
    });
    return names;
}

/// Stops soon after the bound, so that a device or an endless file can't fill memory.
bool read_file(const fs::path& path, std::size_t room, Document& out, Mistakes& mistakes) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::array<char, kChunk> chunk{};
    while (file && out.text.size() <= room) {
        file.read(chunk.data(), chunk.size());
        out.text.append(chunk.data(), static_cast<std::size_t>(file.gcount()));
    }
    if (!file.is_open() || file.bad()) {
        const int code = errno == 0 ? EIO : errno;
        mistakes.add({out.name, 0, 0}, std::error_code(code, std::generic_category()).message(),
                     "a file that can be read");
        return false;
    }
    if (out.text.size() <= room) return true;
    mistakes.add({out.name, 0, 0}, "more text than is read",
                 fmt::format("at most {} MiB in all files together", kMaxConfigBytes >> 20U));
    return false;
}

/// Follows just enough of TOML's lexis to know what stands outside strings and comments. A wrong guess in a
/// file that is no TOML does no harm: the parser refuses it anyway.
class DepthScanner {
  public:
    explicit DepthScanner(std::string_view text) : text_(text) {}

    std::uint32_t run() {
        while (at_ < text_.size()) {
            step(text_[at_]);
            if (dots_ >= kMaxKeyDepth) return line_;
            ++at_;
        }
        return 0;
    }

  private:
    void step(char c) {
        if (c == '\n') {
            ++line_;
            dots_ = 0;
            return;
        }
        if (c == '"' || c == '\'') return skip_string(c);
        if (c == '#') return skip_comment();
        if (c == '.') ++dots_;
        if (std::string_view("=,[{").find(c) != std::string_view::npos) dots_ = 0;
    }

    void skip_comment() {
        const std::size_t end = text_.find('\n', at_);
        at_ = (end == std::string_view::npos ? text_.size() : end) - 1;
    }

    /// Leaves at_ on the closing quote.
    void skip_string(char quote) {
        const std::string triple(3, quote);
        const bool many_lines = text_.substr(at_).starts_with(triple);
        at_ += many_lines ? 3 : 1;
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '\\' && quote == '"') {
                ++at_;
                if (at_ < text_.size() && text_[at_] == '\n') ++line_;
            } else if (c == '\n') {
                if (!many_lines) {  // unterminated: the parser will say so
                    --at_;
                    return;
                }
                ++line_;
            } else if (c == quote && (!many_lines || text_.substr(at_).starts_with(triple))) {
                at_ += many_lines ? 2 : 0;
                // A string over many lines may end in up to two quotes of its own: """a"""""
                for (int own = 0; many_lines && own < 2 && text_.substr(at_ + 1).starts_with(quote); ++own)
                    ++at_;
                return;
            }
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t dots_ = 0;
    std::uint32_t line_ = 1;
};

}  // namespace

std::vector<Document> read_documents(const std::string& path, Mistakes& mistakes) {
    std::error_code ignored;
    const bool folder = fs::is_directory(path, ignored);
    std::vector<std::string> names = folder ? list_files(path, mistakes) : std::vector<std::string>{path};
    if (names.empty() && mistakes.empty()) mistakes.add({path, 0, 0}, "an empty folder", "detour.toml in it");
    if (names.size() > kMaxConfigFiles) {
        mistakes.add({path, 0, 0}, fmt::format("{} files", names.size()),
                     fmt::format("at most {}", kMaxConfigFiles));
        return {};
    }
    std::vector<Document> documents;
    std::size_t room = kMaxConfigBytes;
    for (std::string& name : names) {
        Document document{std::move(name), {}};
        const fs::path file = folder ? fs::path(path) / document.name : fs::path(document.name);
        if (!read_file(file, room, document, mistakes)) continue;
        room -= document.text.size();
        documents.push_back(std::move(document));
    }
    return documents;
}

std::uint32_t too_deep_line(std::string_view text) {
    return DepthScanner(text).run();
}

}  // namespace detour::config
