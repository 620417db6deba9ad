// One table of a TOML document being read: every key asked for by name, every mistake collected.
//
// For the files of this library that read sections, alone: it needs the TOML parser's headers. Not
// thread-safe; a Section holds references into its document and its Reading.
#pragma once

#include <fmt/format.h>
#include <toml++/toml.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/mistakes.h"
#include "config/model.h"
#include "config/rules.h"
#include "config/words.h"

namespace detour::config {

/// What every part of one document's reading needs.
struct Reading {
    std::string file;
    Mistakes* mistakes;
    std::set<std::string>* keys;  ///< when not null: collects "section.key" of every key that is asked for
};

[[nodiscard]] Origin origin_at(const Reading& reading, const toml::source_position& position);

enum class Need : std::uint8_t { kRequired, kOptional };

/// One table being read. Each accessor asks for one key, checks it, writes the result if it is right and
/// reports it if it is not; finish() reports the keys that nobody asked for. An absent optional key leaves
/// the default.
class Section {
  public:
    /// `table` may be null: a section that is left out.
    Section(const Reading& reading, std::string path, const toml::table* table, Origin header)
        : reading_(&reading), path_(std::move(path)), table_(table), header_(std::move(header)) {}

    [[nodiscard]] const Origin& header() const { return header_; }
    [[nodiscard]] const Reading& reading() const { return *reading_; }

    const toml::node* ask(std::string_view key);

    void wrong(const toml::node& node, std::string_view key, std::string expected);
    void wrong_found(const toml::node& node, std::string found, std::string expected);
    void missing(std::string_view key, std::string_view expected);
    [[nodiscard]] Origin place(const toml::node& node) const;
    [[nodiscard]] bool has(std::string_view key) const { return table_ != nullptr && table_->contains(key); }
    [[nodiscard]] Origin place_or_header(std::string_view key) const;

    /// Of the array under `key`; 0 when there is none.
    [[nodiscard]] std::size_t items(std::string_view key) const;

    void text(std::string_view key, std::string& out, Need need, std::string_view expected,
              const TextRule& rule);

    template <class T>
    void integer(std::string_view key, T& out, std::int64_t least, std::int64_t most) {
        const toml::node* node = ask(key);
        if (node == nullptr) return;
        if (const auto value = integer_of(*node, key, least, most)) out = static_cast<T>(*value);
    }

    void boolean(std::string_view key, bool& out);

    void real(std::string_view key, double& out, double least, double most, std::string_view expected);

    void duration(std::string_view key, milliseconds& out, milliseconds least, milliseconds most);

    /// False when the key is there and wrong.
    template <class E>
    bool choice(std::string_view key, E& out, std::span<const Word<E>> words) {
        const toml::node* node = ask(key);
        if (node == nullptr) return true;
        const auto* text = node->as_string();
        std::string expected;
        std::string later;
        for (const Word<E>& word : words) {
            const bool said = text != nullptr && text->get() == word.text;
            if (said && word.value) {
                out = *word.value;
                return true;
            }
            if (said) later = fmt::format(" (\"{}\" is not supported by this version)", word.text);
            if (word.value) expected += fmt::format("{}\"{}\"", expected.empty() ? "" : " or ", word.text);
        }
        wrong(*node, key, expected + later);
        return false;
    }

    /// Calls `each(node, text)` for every string of an array that passes `rule`.
    void texts(std::string_view key, std::size_t least, std::size_t most, std::string_view expected,
               const TextRule& rule, const std::function<void(const toml::node&, const std::string&)>& each);

    void integers(std::string_view key, std::size_t most, std::int64_t low, std::int64_t high,
                  const std::function<void(const toml::node&, std::int64_t)>& each);

    /// A sub-table, absent or not.
    Section table(std::string_view key);

    /// Calls `each` for every table of an array of tables. False when the list itself was no such thing.
    bool tables(std::string_view key, const std::function<void(Section)>& each);

    /// The table's pairs, for a table whose keys are names.
    template <class F>
    void each_pair(F each) const {
        if (table_ == nullptr) return;
        for (const auto& [key, node] : *table_) {
            each(std::string(key.str()), origin_at(*reading_, key.source().begin), node);
        }
    }

    void finish() const;

    std::optional<std::int64_t> integer_of(const toml::node& node, std::string_view key, std::int64_t least,
                                           std::int64_t most);

  private:
    std::optional<std::string> text_of(const toml::node& node, std::string_view key,
                                       std::string_view expected, const TextRule& rule);

    const toml::array* list_of(const toml::node& node, std::string_view key, std::size_t least,
                               std::size_t most, std::string_view expected);

    [[nodiscard]] std::string shown_header() const;
    [[nodiscard]] std::string list_of_keys() const;

    const Reading* reading_;
    std::string path_;
    const toml::table* table_;
    Origin header_;
    std::vector<std::string> asked_;
};

}  // namespace detour::config
