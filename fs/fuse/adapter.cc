// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/adapter.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>
#include <string>
#include <string_view>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/fuse/convert.h"

namespace layerfs::fuse {
namespace {

/// Ten years: the kernel holds it for longer than any mount lives, and no conversion to jiffies overflows.
constexpr double kForever = 10.0 * 365 * 24 * 3600;

/// Unionfs's Caller::has_group, by the groups that a procfs of the callers' PID namespace says. Those of a
/// thread in another user namespace are told in this one's numbers, which are not the mount's: then they are
/// taken for none.
bool has_group(const unionfs::Caller& caller, unionfs::Gid gid) {
  const int processes = current_worker().processes();
  if (caller.thread == 0 || processes < 0) return false;
  const std::string process = fmt::format("{}/", caller.thread);
  struct stat own{};
  struct stat theirs{};
  if (::stat("/proc/self/ns/user", &own) != 0 ||
      ::fstatat(processes, (process + "ns/user").c_str(), &theirs, 0) != 0 || own.st_ino != theirs.st_ino)
    return false;
  const auto status = read_file_at(processes, process + "status");
  if (!status) return false;
  constexpr std::string_view kGroups = "\nGroups:";
  const auto begin = status->find(kGroups);
  if (begin == std::string::npos) return false;
  std::string_view rest = std::string_view(*status).substr(begin + kGroups.size());
  rest = rest.substr(0, rest.find('\n'));
  while (!rest.empty()) {
    const auto word = rest.find_first_not_of(" \t");
    if (word == std::string_view::npos) break;
    rest.remove_prefix(word);
    std::uint32_t group = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), group);
    if (error != std::errc{}) break;
    if (unionfs::Gid{group} == gid) return true;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  return false;
}

}  // namespace

bool is_from_root(fuse_req_t req, const Adapter& adapter) {
  return adapter.root_is_real && fuse_req_ctx(req)->uid == 0;
}

unionfs::Caller caller_of(fuse_req_t req, const Adapter& adapter) {
  const fuse_ctx* context = fuse_req_ctx(req);
  return {.uid = stored_uid(adapter.options.ids, context->uid),
          .gid = stored_gid(adapter.options.ids, context->gid),
          .umask = context->umask,
          .request = current_worker().details.unique + adapter.options.connection,
          .thread = current_worker().details.caller,
          .has_group = has_group,
          .kills_set_id = !is_from_root(req, adapter),
          .resent = current_worker().details.resent,
          .when_frozen =
              current_worker().may_hold_back ? unionfs::WhenFrozen::kFail : unionfs::WhenFrozen::kWait};
}

void reply_failure(fuse_req_t req, std::string_view operation, const Error& error) {
  if (error.code == ERESTART && current_worker().may_hold_back) {
    current_worker().is_held_back = true;
    return fuse_reply_none(req);
  }
  // Absence, permission and the like are answers; damage and a failing disk are for the log too.
  if (error.kind == ErrorKind::kCorrupt || error.code == EIO || error.code == EMFILE)
    log_error("{}: {}", operation, error.message());
  fuse_reply_err(req, error.code > 0 ? error.code : EIO);
}

void reply_exception(fuse_req_t req, std::string_view operation, const std::exception& exception) {
  bool out_of_memory = dynamic_cast<const std::bad_alloc*>(&exception) != nullptr;
  fuse_reply_err(req, out_of_memory ? ENOMEM : EIO);
  try {
    log_error("{}: {}", operation, exception.what());
  } catch (const std::exception&) {
    // No memory for the line: the caller has its errno, the server goes on (invariant 2).
  }
}

void reply_done(fuse_req_t req, std::string_view operation, const Result<void>& result) {
  if (!result) return reply_failure(req, operation, result.error());
  fuse_reply_err(req, 0);
}

fuse_entry_param to_entry_param(const Adapter& adapter, const unionfs::Entry& entry) {
  fuse_entry_param param{};
  param.ino = to_number(entry.ino);
  param.attr = to_stat(adapter.options.ids, entry.ino, entry.node, adapter.fs.blocks(entry.ino, entry.node));
  param.attr_timeout = kForever;
  param.entry_timeout = kForever;
  return param;
}

fuse_entry_param negative_entry() {
  fuse_entry_param param{};
  param.entry_timeout = kForever;
  return param;
}

Result<unionfs::Node> to_be_told(Adapter& adapter, unionfs::Ino ino, Result<unionfs::Node> node) {
  if (!node || node->kind != unionfs::NodeKind::kDirectory) return node;
  adapter.readers.note(ino, current_worker().details.caller);
  auto again = adapter.fs.getattr(ino);
  return again ? again : node;
}

void expire_attributes(const Adapter& adapter, unionfs::Ino ino) {
  fuse_lowlevel_notify_inval_inode(adapter.session, to_number(ino), -1, 0);
}

void expire_late_replies(const Adapter& adapter, unionfs::Ino directory) {
  if (adapter.readers.may_be_late(directory, current_worker().details.caller))
    expire_attributes(adapter, directory);
}

void reply_entry(fuse_req_t req, Adapter& adapter, std::string_view operation,
                 const Result<unionfs::Entry>& result) {
  if (!result) return reply_failure(req, operation, result.error());
  fuse_entry_param param = to_entry_param(adapter, *result);
  if (fuse_reply_entry(req, &param) != 0) adapter.fs.forget(result->ino, 1);
}

void reply_attributes(fuse_req_t req, const Adapter& adapter, std::string_view operation, unionfs::Ino ino,
                      const Result<unionfs::Node>& result) {
  if (!result) return reply_failure(req, operation, result.error());
  struct stat attributes = to_stat(adapter.options.ids, ino, *result, adapter.fs.blocks(ino, *result));
  fuse_reply_attr(req, &attributes, kForever);
}

void reply_value(fuse_req_t req, std::string_view operation, std::size_t size,
                 const Result<std::string>& result) {
  if (!result) return reply_failure(req, operation, result.error());
  if (size == 0)
    fuse_reply_xattr(req, result->size());
  else if (result->size() > size)
    fuse_reply_err(req, ERANGE);
  else
    fuse_reply_buf(req, result->data(), result->size());
}

}  // namespace layerfs::fuse
