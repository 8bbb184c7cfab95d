// SPDX-License-Identifier: Apache-2.0
// JsonReader: typed reads out of a JSON document, where the first wrong field is the error of the whole
// document, named by its path ("linux.resources.pids.limit"). Null and absent are the same. One thread.
//
// (1) After the first error every further read gives its default: check error() once, at the end.
// (2) Unknown fields are ignored (runtime-spec, config.md, "Extensibility"); known ones that are not
//     supported are an error of unsupported().
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::spec {

class JsonReader {
 public:
  /// `error` outlives every reader of the document.
  JsonReader(const nlohmann::json& value, std::string path, std::optional<Error>& error)
      : value_(&value), path_(std::move(path)), error_(&error) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }
  const std::string& path() const { return path_; }

  /// The member `name`, which must be an object where it is there.
  JsonReader object(const char* name) const;
  /// The elements of the list `name`, each an object.
  std::vector<JsonReader> objects(const char* name) const;
  /// The members of the object `name`, each an object, by their names.
  std::vector<std::pair<std::string, JsonReader>> members(const char* name) const;
  bool has(const char* name) const { return find(name) != nullptr; }
  /// Whether it has no member besides `name`, which may be missing too.
  bool has_at_most(const char* name) const;

  std::string string(const char* name, std::string otherwise = {}) const;
  /// A string that must be there and not be empty.
  std::string required_string(const char* name) const;
  bool boolean(const char* name) const;
  std::vector<std::string> strings(const char* name) const;
  std::map<std::string, std::string> string_map(const char* name) const;
  /// An integer within the range of T.
  template <class T>
  std::optional<T> integer(const char* name) const {
    const nlohmann::json* member = find(name);
    if (member == nullptr) return std::nullopt;
    return to_integer<T>(*member, member_path(name));
  }
  template <class T>
  T required_integer(const char* name) const {
    if (!has(name)) fail(name, "is missing");
    return integer<T>(name).value_or(T{});
  }
  template <class T>
  std::vector<T> integers(const char* name) const {
    std::vector<T> list;
    const nlohmann::json* member = find_array(name);
    if (member == nullptr) return list;
    for (std::size_t i = 0; i < member->size(); ++i)
      if (auto one = to_integer<T>((*member)[i], member_path(name) + '[' + std::to_string(i) + ']'))
        list.push_back(*one);
    return list;
  }

  /// The document is wrong at `name`.
  void fail(const char* name, std::string_view reason) const;
  /// `name` must not be there (or must be null, false, empty): this runtime cannot do it.
  void unsupported(const char* name) const;

 private:
  const nlohmann::json* find(const char* name) const;
  const nlohmann::json* find_array(const char* name) const;
  std::string member_path(const char* name) const;
  void set_error(ErrorKind kind, const std::string& field, std::string_view reason) const;

  template <class T>
  std::optional<T> to_integer(const nlohmann::json& member, const std::string& field) const {
    if (member.is_number_unsigned()) {
      auto number = member.get<std::uint64_t>();
      if (number <= static_cast<std::uint64_t>(std::numeric_limits<T>::max())) return static_cast<T>(number);
    } else if (member.is_number_integer()) {
      auto number = member.get<std::int64_t>();
      if (std::in_range<T>(number)) return static_cast<T>(number);
    } else {
      set_error(ErrorKind::kInvalid, field, "must be an integer");
      return std::nullopt;
    }
    set_error(ErrorKind::kInvalid, field, "is out of range");
    return std::nullopt;
  }

  const nlohmann::json* value_;
  std::string path_;
  std::optional<Error>* error_;
};

}  // namespace layerfs::spec
