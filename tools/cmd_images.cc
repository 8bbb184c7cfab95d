// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "runtime/run/labels_file.h"
#include "tools/cmd_image_view.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

using store::Store;
using store::StoreAccess;

constexpr std::size_t kShortId = 12;

// --- images

struct ImagesArguments {
  bool json = false;
  bool quiet = false;
  bool digests = false;
  bool all = false;
  bool whole_ids = false;
};

Json images_json(const std::vector<ImageView>& views) {
  Json list = Json::array();
  for (const auto& view : views) {
    Json image;
    image["Id"] = view.record.config.hex();
    image["Names"] = view.names;
    image["Digest"] = view.record.manifest.str();
    image["Created"] = view.created;
    image["CreatedAt"] = format_time(view.created);
    image["Size"] = view.size;
    image["Dangling"] = view.names.empty();
    image["Layers"] = view.record.layers.size();
    list.push_back(std::move(image));
  }
  return list;
}

std::string images_table(const std::vector<ImageView>& views, const ImagesArguments& arguments) {
  std::vector<std::vector<std::string>> rows;
  auto add_row = [&](std::string repository, std::string tag, std::string digest, std::string id,
                     std::string created, std::string size) {
    std::vector<std::string> row{std::move(repository), std::move(tag)};
    if (arguments.digests) row.push_back(std::move(digest));
    for (auto* cell : {&id, &created, &size}) row.push_back(std::move(*cell));
    rows.push_back(std::move(row));
  };
  add_row("REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE");
  for (const auto& view : views) {
    std::string id = view.record.config.hex();
    if (!arguments.whole_ids) id.resize(kShortId);
    auto names = view.names.empty() ? std::vector<std::string>{""} : view.names;
    for (const auto& name : names) {
      auto [repository, tag] = split_reference(name);
      add_row(repository, tag, view.record.manifest.str(), id, human_age(view.created),
              human_size(view.size));
    }
  }
  return format_table(rows);
}

Result<void> run_images(const Tool& tool, const ImagesArguments& arguments) {
  std::vector<ImageView> views;
  LAYERFS_ASSIGN(auto store, find_store(tool));
  if (store) {
    LAYERFS_ASSIGN(views, view_images(*store));
  }
  if (!arguments.all) std::erase_if(views, [](const auto& view) { return view.names.empty(); });
  if (arguments.json) return print(json_text(images_json(views)));
  if (!arguments.quiet) return print(images_table(views, arguments));
  std::string text;
  for (const auto& view : views)
    text += view.record.config.hex().substr(0, arguments.whole_ids ? std::string::npos : kShortId) + '\n';
  return print(text);
}

// --- inspect

struct InspectArguments {
  std::vector<std::string> names;
  std::string type = "all";
};

Json inspect_container(const Store& store, const store::ContainerRecord& container) {
  Json layers = Json::array();
  for (const auto& layer : container.layers) layers.push_back(layer.str());
  Json out;
  out["Id"] = container.id;
  out["Name"] = container.name;
  out["Created"] = format_time(container.created_at);
  out["Image"] = container.image_config.hex();
  out["ImageName"] = container.image_reference;
  out["ImageDigest"] = container.image_manifest.str();
  out["Kind"] = container.is_mount ? "mount" : "container";
  out["Labels"] = run::read_labels(store.container_dir(container.id));
  out["Directory"] = store.container_dir(container.id);
  out["RootFS"] = {{"Type", "layers"}, {"Layers", layers}};
  return out;
}

Result<Json> inspect_one(Store& store, const InspectArguments& arguments, const std::string& name) {
  if (arguments.type != "image") {
    LAYERFS_ASSIGN(auto container, find_container_or_upper(store, name));
    if (container) return inspect_container(store, *container);
  }
  if (arguments.type != "container") {
    auto record = get_image_by_name(store, name);
    if (record) {
      LAYERFS_ASSIGN(ImageView view, view_image(store, *record));
      return inspect_image(view);
    }
    if (record.error().code != ENOENT) return std::unexpected(record.error());
  }
  auto missing = system_error(ENOENT, "inspect", name);
  missing.error().reason = fmt::format("no such {}", arguments.type == "all"     ? "image, container or upper"
                                                     : arguments.type == "image" ? "image"
                                                                                 : "container or upper");
  return missing;
}

Result<void> run_inspect(const Tool& tool, const InspectArguments& arguments) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kRead));
  Json list = Json::array();
  std::optional<Error> first;
  for (const auto& name : arguments.names) {
    auto one = inspect_one(*store, arguments, name);
    if (one)
      list.push_back(std::move(*one));
    else if (!first)
      first = one.error();
  }
  LAYERFS_TRY(print(json_text(list)));
  if (first) return std::unexpected(*first);
  return {};
}

// --- history

Result<void> run_history(const Tool& tool, const std::string& name, bool json) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kRead));
  LAYERFS_ASSIGN(auto record, get_image_by_name(*store, name));
  LAYERFS_ASSIGN(ImageView view, view_image(*store, record));
  Json steps = history_of(view);
  if (json) return print(json_text(steps));
  constexpr std::size_t kCommand = 45;
  std::vector<std::array<std::string, 5>> rows{{"ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"}};
  for (const Json& step : steps) {
    std::string id = text_of(step, "id");
    if (!id.starts_with('<')) id.resize(kShortId);
    auto created = parse_time(text_of(step, "created"));
    std::string command = text_of(step, "createdBy");
    for (char& c : command)
      if (static_cast<unsigned char>(c) < ' ') c = ' ';
    if (command.size() > kCommand) command = command.substr(0, kCommand - 3) + "...";
    rows.push_back({id, created ? human_age(*created) : "", command,
                    human_size(step["size"].get<std::uint64_t>()), text_of(step, "comment")});
  }
  return print(format_table(rows));
}

// --- tag, rmi

Result<void> run_tag(const Tool& tool, const std::string& name, const std::vector<std::string>& new_names) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kWrite));
  LAYERFS_ASSIGN(auto lease, store->lease());
  LAYERFS_ASSIGN(auto record, get_image_by_name(*store, name));
  std::vector<std::string> references;  // all are checked before the first is given
  for (const auto& new_name : new_names) {
    LAYERFS_ASSIGN(std::string reference, store::normalise_reference(new_name));
    references.push_back(std::move(reference));
  }
  for (const auto& reference : references) {
    record.reference = reference;
    LAYERFS_TRY(store->put_image(record));
  }
  return {};
}

/// True where the user wrote one of the image's names, as store::get_image_by_name reads names, not its id.
bool is_name_of(const store::ImageRecord& record, const std::string& text) {
  if (record.reference.empty()) return false;
  return record.reference == text || std::ranges::count(full_names(text), record.reference) > 0;
}

Result<void> refuse_used(Store& store, const store::ImageRecord& record) {
  LAYERFS_ASSIGN(auto containers, store.list_containers());
  for (const auto& container : containers) {
    if (container.image_config != record.config) continue;
    auto busy = system_error(EBUSY, "remove image",
                             record.reference.empty() ? record.config.hex() : record.reference);
    busy.error().reason =
        fmt::format("the {} '{}' uses it", container.is_mount ? "upper" : "container", container.name);
    return busy;
  }
  return {};
}

enum class Force : std::uint8_t { kNo, kYes };

/// Takes one name away, or all where the image was given by its id.
Result<std::string> remove_one(Store& store, const std::string& text, Force force) {
  LAYERFS_ASSIGN(auto record, get_image_by_name(store, text));
  LAYERFS_ASSIGN(auto all, store.list_images());
  std::vector<store::ImageRecord> same;
  for (const auto& image : all)
    if (image.config == record.config) same.push_back(image);
  bool by_name = is_name_of(record, text);
  if (!by_name && same.size() > 1 && force == Force::kNo)
    return invalid_error("remove image", text,
                         fmt::format("it has {} names; give one of them, or --force", same.size()));
  bool last = !by_name || same.size() == 1;
  if (last && force == Force::kNo) LAYERFS_TRY(refuse_used(store, record));
  std::string said;
  for (const auto& image : same) {
    if (by_name && image.reference != record.reference) continue;
    bool nameless = image.reference.empty();
    LAYERFS_TRY(store.remove_image(nameless ? image.manifest.str() : image.reference));
    if (!nameless) said += "Untagged: " + image.reference + '\n';
  }
  if (last) said += "Deleted: " + record.config.hex() + '\n';
  return said;
}

Result<void> run_rmi(const Tool& tool, const std::vector<std::string>& names, Force force) {
  LAYERFS_ASSIGN(auto store, open_store(tool, StoreAccess::kWrite));
  std::optional<Error> first;
  for (const auto& name : names) {
    auto said = remove_one(*store, name, force);
    if (said)
      LAYERFS_TRY(print(*said));
    else if (!first)
      first = said.error();
    else
      report_error(tool, said.error());
  }
  if (first) return std::unexpected(*first);
  return {};
}

// --- the commands' options

void add_images(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("images", "List the images of the store");
  auto arguments = std::make_shared<ImagesArguments>();
  command->add_flag("--json", arguments->json, "As JSON");
  command->add_flag("-q,--quiet", arguments->quiet, "Only ids");
  command->add_flag("--digests", arguments->digests, "Manifests' digests too");
  command->add_flag("-a,--all", arguments->all, "Images that lost their name too");
  command->add_flag("--no-trunc", arguments->whole_ids, "Whole ids");
  command->callback([arguments, &tool] { finish(tool, run_images(tool, *arguments)); });
}

void add_inspect(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("inspect", "Show all about images or containers, as JSON");
  auto arguments = std::make_shared<InspectArguments>();
  command->add_option("names", arguments->names, "Names or ids")->required();
  command->add_option("--type", arguments->type, "image, container or all")
      ->check(CLI::IsMember({"image", "container", "all"}));
  command->add_flag("--json")->description("As JSON: the default, and the only form");
  command->callback([arguments, &tool] { finish(tool, run_inspect(tool, *arguments)); });
}

void add_history(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("history", "Show how an image was made, newest step first");
  struct Arguments {
    std::string name;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  command->add_option("image", arguments->name, "Name or id of the image")->required();
  command->add_flag("--json", arguments->json, "As JSON");
  command->callback(
      [arguments, &tool] { finish(tool, run_history(tool, arguments->name, arguments->json)); });
}

void add_tag(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("tag", "Give an image more names");
  struct Arguments {
    std::string name;
    std::vector<std::string> new_names;
  };
  auto arguments = std::make_shared<Arguments>();
  command->add_option("image", arguments->name, "Name or id of the image")->required();
  command->add_option("names", arguments->new_names, "New names")->required();
  command->callback(
      [arguments, &tool] { finish(tool, run_tag(tool, arguments->name, arguments->new_names)); });
}

void add_rmi(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand(
      "rmi", "Take names from images; what no name needs is removed by `layerfs store gc`");
  struct Arguments {
    std::vector<std::string> names;
    bool force = false;
  };
  auto arguments = std::make_shared<Arguments>();
  command->add_option("images", arguments->names, "Names, or ids for all names of an image")->required();
  command->add_flag("-f,--force", arguments->force,
                    "Also where a container uses the image (it goes on working), or an id has several names");
  command->callback([arguments, &tool] {
    finish(tool, run_rmi(tool, arguments->names, arguments->force ? Force::kYes : Force::kNo));
  });
}

}  // namespace

void add_images_commands(CLI::App& app, Tool& tool) {
  add_images(app, tool);
  add_inspect(app, tool);
  add_history(app, tool);
  add_tag(app, tool);
  add_rmi(app, tool);
}

}  // namespace layerfs::tools
