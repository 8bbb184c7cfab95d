// SPDX-License-Identifier: Apache-2.0
#include "fs/image/image_config.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

namespace layerfs::image {

namespace {

using OrderedJson = nlohmann::ordered_json;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  std::size_t from = text.find_first_not_of(kBlanks);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(kBlanks) - from + 1);
}

std::unexpected<Error> bad_change(std::string_view change, std::string_view reason) {
  return invalid_error("change", change, reason);
}

/// Words between blanks; quotes and backslashes as a shell has them.
Result<std::vector<std::string>> split_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      word += text[++i];
      in_word = true;
    } else if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else {
        word += c;
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
      in_word = true;
    } else if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      if (in_word) words.push_back(std::exchange(word, {}));
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote != 0) return bad_change(text, "a quote is not closed");
  if (in_word) words.push_back(std::move(word));
  return words;
}

/// A JSON array of strings; nullopt where it is none.
std::optional<std::vector<std::string>> parse_exec_form(std::string_view text) {
  if (!text.starts_with('[')) return std::nullopt;
  OrderedJson json = OrderedJson::parse(text, nullptr, false);
  if (!json.is_array()) return std::nullopt;
  std::vector<std::string> words;
  for (const auto& word : json) {
    if (!word.is_string()) return std::nullopt;
    words.push_back(word.get<std::string>());
  }
  return words;
}

OrderedJson command_of(std::string_view value) {
  if (auto words = parse_exec_form(value)) return *words;
  return OrderedJson{"/bin/sh", "-c", std::string(value)};
}

/// "A=1 B=2", or "A 1" as ENV and LABEL allowed before.
Result<std::vector<std::pair<std::string, std::string>>> split_pairs(std::string_view change,
                                                                     std::string_view value) {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::size_t blank = value.find_first_of(" \t");
  std::size_t equals = value.find('=');
  if (equals == std::string_view::npos || blank < equals) {
    if (blank == std::string_view::npos) return bad_change(change, "a name without a value");
    pairs.emplace_back(value.substr(0, blank), trimmed(value.substr(blank)));
    return pairs;
  }
  LAYERFS_ASSIGN(auto words, split_words(value));
  for (const auto& word : words) {
    std::size_t at = word.find('=');
    if (at == std::string::npos || at == 0)
      return bad_change(change, fmt::format("'{}' is not NAME=VALUE", word));
    pairs.emplace_back(word.substr(0, at), word.substr(at + 1));
  }
  return pairs;
}

OrderedJson& member(OrderedJson& object, const char* name, OrderedJson empty) {
  if (!object.contains(name) || object[name].type() != empty.type()) object[name] = std::move(empty);
  return object[name];
}

void set_env(OrderedJson& settings, const std::string& name, const std::string& value) {
  OrderedJson& env = member(settings, "Env", OrderedJson::array());
  for (auto& item : env)
    if (item.is_string() && item.get_ref<const std::string&>().starts_with(name + '=')) {
      item = name + '=' + value;
      return;
    }
  env.push_back(name + '=' + value);
}

/// "80", "80/tcp", "53/udp", "8000-8010/tcp".
Result<void> expose(OrderedJson& settings, std::string_view change, const std::string& text) {
  std::string_view ports = std::string_view(text).substr(0, text.find('/'));
  std::string protocol = ports.size() == text.size() ? "tcp" : text.substr(ports.size() + 1);
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp")
    return bad_change(change, "not tcp, udp or sctp");
  std::size_t dash = ports.find('-');
  auto number = [&](std::string_view digits) {
    unsigned value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    bool whole = error == std::errc() && end == digits.data() + digits.size();
    return whole && value <= 65535 ? value : 0;
  };
  unsigned first = number(ports.substr(0, dash));
  unsigned last = dash == std::string_view::npos ? first : number(ports.substr(dash + 1));
  if (first == 0 || last < first) return bad_change(change, fmt::format("'{}' is no port", ports));
  OrderedJson& exposed = member(settings, "ExposedPorts", OrderedJson::object());
  for (unsigned port = first; port <= last; ++port)
    exposed[fmt::format("{}/{}", port, protocol)] = OrderedJson::object();
  return {};
}

std::string working_dir(const OrderedJson& settings, std::string_view value) {
  std::string path(value);
  if (!path.starts_with('/')) {
    std::string base;
    if (settings.contains("WorkingDir") && settings["WorkingDir"].is_string()) base = settings["WorkingDir"];
    path = base + '/' + path;
    if (!path.starts_with('/')) path.insert(0, "/");
  }
  return path;
}

Result<void> apply_words(OrderedJson& settings, const std::string& instruction, std::string_view change,
                         std::string_view value) {
  auto words = parse_exec_form(value);
  if (!words) {
    LAYERFS_ASSIGN(words, split_words(value));
  }
  for (const auto& word : *words) {
    if (instruction == "EXPOSE") {
      LAYERFS_TRY(expose(settings, change, word));
    } else {
      member(settings, "Volumes", OrderedJson::object())[word] = OrderedJson::object();
    }
  }
  return {};
}

Result<void> apply_change(OrderedJson& settings, std::string_view change) {
  std::string_view text = trimmed(change);
  std::size_t cut = text.find_first_of(" \t=");
  if (cut == std::string_view::npos) return bad_change(change, "an instruction and its value are wanted");
  std::string instruction(text.substr(0, cut));
  std::transform(instruction.begin(), instruction.end(), instruction.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  std::string_view value = trimmed(text.substr(cut + 1));
  bool is_command = instruction == "CMD" || instruction == "ENTRYPOINT";
  if (value.empty() && !is_command && instruction != "USER") return bad_change(change, "no value");

  if (is_command) {
    // An empty one takes the image's away.
    settings[instruction == "CMD" ? "Cmd" : "Entrypoint"] = value.empty() ? OrderedJson() : command_of(value);
  } else if (instruction == "ENV" || instruction == "LABEL") {
    LAYERFS_ASSIGN(auto pairs, split_pairs(change, value));
    for (const auto& [name, text_value] : pairs) {
      if (instruction == "ENV") {
        set_env(settings, name, text_value);
      } else {
        member(settings, "Labels", OrderedJson::object())[name] = text_value;
      }
    }
  } else if (instruction == "EXPOSE" || instruction == "VOLUME") {
    return apply_words(settings, instruction, change, value);
  } else if (instruction == "USER") {
    settings["User"] = value;
  } else if (instruction == "WORKDIR") {
    settings["WorkingDir"] = working_dir(settings, value);
  } else if (instruction == "STOPSIGNAL") {
    settings["StopSignal"] = value;
  } else {
    return bad_change(change,
                      fmt::format("'{}' is none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, "
                                  "VOLUME, WORKDIR",
                                  instruction));
  }
  return {};
}

/// Lines of history that a layer belongs to.
std::size_t layer_lines(const OrderedJson& history) {
  return static_cast<std::size_t>(std::count_if(history.begin(), history.end(), [](const OrderedJson& line) {
    return !(line.is_object() && line.contains("empty_layer") && line["empty_layer"] == true);
  }));
}

OrderedJson history_line(const ConfigLayer& layer) {
  OrderedJson line = {{"created", rfc3339(layer.created)}, {"created_by", layer.created_by}};
  if (!layer.author.empty()) line["author"] = layer.author;
  if (!layer.comment.empty()) line["comment"] = layer.comment;
  return line;
}

}  // namespace

std::string rfc3339(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

Result<std::string> edit_config(std::string_view config, const ConfigLayer& layer,
                                const std::vector<std::string>& changes) {
  OrderedJson json = OrderedJson::parse(config, nullptr, false);
  if (!json.is_object() || !json.contains("rootfs") || !json["rootfs"].is_object() ||
      !json["rootfs"].contains("diff_ids") || !json["rootfs"]["diff_ids"].is_array())
    return invalid_error("edit", "image config", "it has no rootfs.diff_ids");
  OrderedJson& settings = member(json, "config", OrderedJson::object());
  for (const auto& change : changes) LAYERFS_TRY(apply_change(settings, change));

  OrderedJson& history = member(json, "history", OrderedJson::array());
  for (std::size_t lines = layer_lines(history); lines < json["rootfs"]["diff_ids"].size(); ++lines)
    history.push_back(OrderedJson{{"created_by", "unknown"}});
  history.push_back(history_line(layer));
  json["rootfs"]["diff_ids"].push_back(layer.diff_id.str());
  json["created"] = rfc3339(layer.created);
  if (!layer.author.empty()) json["author"] = layer.author;
  // What Docker says of the container that an older commit was made from does not hold for this one.
  json.erase("container");
  json.erase("container_config");
  // Text that is no UTF-8 (an author's name of another charset) is replaced, not an exception.
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace layerfs::image
