// SPDX-License-Identifier: Apache-2.0
// `layerfs pull`, and the pulling of what another command needs (`run`, `mount`).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "fs/image/importer.h"
#include "fs/store/store.h"
#include "tools/cmd_interrupt.h"
#include "tools/io.h"

namespace layerfs::tools {

/// Podman's words for when a registry is asked.
enum class PullPolicy : std::uint8_t {
  kMissing,  ///< where the store has no image of that name
  kNewer,  ///< and where the registry has another one by now; an image that is there does where it cannot be asked
  kAlways,  ///< each time
  kNever,
};

/// What may stand before a name that is a registry's.
inline constexpr std::string_view kRegistryTransport = "docker://";

/// 64 hex digits, with or without "sha256:": an image's id, which no registry knows.
bool is_image_id(std::string_view name);

/// Options of a command that asks a registry, as they are typed.
struct AccessArguments {
  std::string tls_verify;  ///< "true", "false", "": as registries.conf says
  std::string creds;
  std::string auth_file;
};
void add_access_options(CLI::App& command, AccessArguments& arguments);
/// `interrupt` must outlive what is made with the result; may be null. Errors: kInvalid naming the option.
Result<registry::AccessOptions> make_access(const AccessArguments& arguments,
                                            const InterruptWatch* interrupt);

struct PullArguments {
  PullPolicy policy = PullPolicy::kMissing;
  std::string platform;
  AccessArguments access;
  bool quiet = false;
  bool json = false;  ///< events, one a line, on standard output
};
/// `--pull` or `--policy`.
void add_policy_option(CLI::App& command, const std::string& name, PullPolicy& policy);

/// The image that `name` means, pulled where the policy says so; the store is made where it is missing and something
/// was found to put in it. `interrupt`: who watches for signals; null: they are watched here while it pulls, and end
/// the program. Errors: ENOENT where there is none and the policy is kNever, or `name` is an id; those of
/// the registry.
Result<store::ImageRecord> get_image_pulling(const Tool& tool, const std::string& name,
                                             const PullArguments& arguments, const InterruptWatch* interrupt);

void add_pull_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
