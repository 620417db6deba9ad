#include "config/section.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "config/duration.h"
#include "config/suggest.h"

namespace detour::config {
namespace {

std::string render(const toml::node& node) {
    if (const auto* text = node.as_string()) return quoted(text->get());
    if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
    if (const auto* real = node.as_floating_point()) return fmt::format("{}", real->get());
    if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
    if (node.is_array()) return "[…]";
    if (node.is_table()) return "{…}";
    return "a date or time";
}

}  // namespace

Origin origin_at(const Reading& reading, const toml::source_position& position) {
    return {reading.file, position.line, position.column};
}

const toml::node* Section::ask(std::string_view key) {
    asked_.emplace_back(key);
    if (reading_->keys != nullptr) reading_->keys->insert(path_ + "." + std::string(key));
    return table_ == nullptr ? nullptr : table_->get(key);
}

void Section::wrong(const toml::node& node, std::string_view key, std::string expected) {
    wrong_found(node, fmt::format("{} = {}", key, render(node)), std::move(expected));
}

void Section::wrong_found(const toml::node& node, std::string found, std::string expected) {
    reading_->mistakes->add(place(node), std::move(found), std::move(expected));
}

void Section::missing(std::string_view key, std::string_view expected) {
    reading_->mistakes->add(header_, fmt::format("{} without {}", shown_header(), key),
                            std::string(expected));
}

Origin Section::place(const toml::node& node) const {
    return origin_at(*reading_, node.source().begin);
}

Origin Section::place_or_header(std::string_view key) const {
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    return node == nullptr ? header_ : place(*node);
}

std::size_t Section::items(std::string_view key) const {
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    return node == nullptr || !node->is_array() ? 0 : node->as_array()->size();
}

void Section::text(std::string_view key, std::string& out, Need need, std::string_view expected,
                   const TextRule& rule) {
    const toml::node* node = ask(key);
    if (node == nullptr) {
        if (need == Need::kRequired) missing(key, expected);
        return;
    }
    if (const auto value = text_of(*node, key, expected, rule)) out = *value;
}

void Section::boolean(std::string_view key, bool& out) {
    const toml::node* node = ask(key);
    if (node == nullptr) return;
    const auto* value = node->as_boolean();
    if (value == nullptr) return wrong(*node, key, "true or false");
    out = value->get();
}

void Section::real(std::string_view key, double& out, double least, double most, std::string_view expected) {
    const toml::node* node = ask(key);
    if (node == nullptr) return;
    const auto value = node->is_number() ? node->value<double>() : std::nullopt;
    // Written so that a NaN is refused too.
    if (value && *value >= least && *value <= most) {
        out = *value;
    } else {
        wrong(*node, key, std::string(expected));
    }
}

void Section::duration(std::string_view key, milliseconds& out, milliseconds least, milliseconds most) {
    const toml::node* node = ask(key);
    if (node == nullptr) return;
    const auto* text = node->as_string();
    const auto value = text == nullptr ? std::nullopt : parse_duration(text->get());
    if (value && *value >= least && *value <= most) {
        out = *value;
    } else {
        wrong(*node, key,
              fmt::format("a duration from \"{}\" to \"{}\" (units ms, s, m, h)", duration_text(least),
                          duration_text(most)));
    }
}

void Section::texts(std::string_view key, std::size_t least, std::size_t most, std::string_view expected,
                    const TextRule& rule,
                    const std::function<void(const toml::node&, const std::string&)>& each) {
    const toml::node* node = ask(key);
    if (node == nullptr) {
        if (least > 0) missing(key, expected);
        return;
    }
    const toml::array* array = list_of(*node, key, least, most, expected);
    if (array == nullptr) return;
    for (const toml::node& item : *array) {
        if (const auto value = text_of(item, key, expected, rule)) each(item, *value);
    }
}

void Section::integers(std::string_view key, std::size_t most, std::int64_t low, std::int64_t high,
                       const std::function<void(const toml::node&, std::int64_t)>& each) {
    const toml::node* node = ask(key);
    if (node == nullptr) return;
    const toml::array* array =
        list_of(*node, key, 1, most, fmt::format("a list of whole numbers from {} to {}", low, high));
    if (array == nullptr) return;
    for (const toml::node& item : *array) {
        if (const auto value = integer_of(item, key, low, high)) each(item, *value);
    }
}

Section Section::table(std::string_view key) {
    const toml::node* node = ask(key);
    const toml::table* inner = node == nullptr ? nullptr : node->as_table();
    if (node != nullptr && inner == nullptr) wrong(*node, key, fmt::format("a table: {} = {{ … }}", key));
    return {*reading_, path_ + "." + std::string(key), inner, node == nullptr ? header_ : place(*node)};
}

bool Section::tables(std::string_view key, const std::function<void(Section)>& each) {
    const toml::node* node = ask(key);
    const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
    if (node == nullptr) {
        // Still asks for the keys inside when they are being collected.
        if (reading_->keys != nullptr) each({*reading_, path, nullptr, header_});
        return true;
    }
    const toml::array* array = node->as_array();
    if (array == nullptr) {
        wrong(*node, key, fmt::format("a list of tables, each under [[{}]]", path));
        return false;
    }
    bool complete = true;
    for (const toml::node& item : *array) {
        const toml::table* inner = item.as_table();
        if (inner != nullptr) {
            each({*reading_, path, inner, place(item)});
        } else {
            wrong(item, key, fmt::format("a table, under [[{}]]", path));
            complete = false;
        }
    }
    return complete;
}

void Section::finish() const {
    if (table_ == nullptr) return;
    for (const auto& [key, node] : *table_) {
        const std::string word(key.str());
        if (std::ranges::find(asked_, word) != asked_.end()) continue;
        const std::string near = nearest(word, asked_);
        const std::string hint = near.empty() ? list_of_keys() : fmt::format("did you mean \"{}\"?", near);
        reading_->mistakes->add(origin_at(*reading_, key.source().begin), "unknown key " + quoted(word),
                                fmt::format("a key of {} ({})", shown_header(), hint));
    }
}

std::optional<std::int64_t> Section::integer_of(const toml::node& node, std::string_view key,
                                                std::int64_t least, std::int64_t most) {
    const auto* value = node.as_integer();
    if (value != nullptr && value->get() >= least && value->get() <= most) return value->get();
    wrong(node, key, fmt::format("a whole number from {} to {}", least, most));
    return std::nullopt;
}

std::optional<std::string> Section::text_of(const toml::node& node, std::string_view key,
                                            std::string_view expected, const TextRule& rule) {
    const auto* text = node.as_string();
    if (text == nullptr) {
        wrong(node, key, std::string(expected));
        return std::nullopt;
    }
    if (auto why = rule(text->get())) {
        wrong(node, key, std::move(*why));
        return std::nullopt;
    }
    return text->get();
}

const toml::array* Section::list_of(const toml::node& node, std::string_view key, std::size_t least,
                                    std::size_t most, std::string_view expected) {
    const toml::array* array = node.as_array();
    if (array == nullptr) {
        wrong(node, key, std::string(expected));
    } else if (array->size() < least || array->size() > most) {
        wrong_found(node, fmt::format("{} of {} items", key, array->size()),
                    fmt::format("{} to {} items", least, most));
        return nullptr;
    }
    return array;
}

std::string Section::shown_header() const {
    if (path_.empty()) return "the file";
    const bool repeated =
        path_ == "site" || path_ == "site.probe" || path_ == "pool" || path_ == "pool.backend";
    return repeated ? "[[" + path_ + "]]" : "[" + path_ + "]";
}

std::string Section::list_of_keys() const {
    return fmt::format("known: {}", fmt::join(asked_, ", "));
}

}  // namespace detour::config
