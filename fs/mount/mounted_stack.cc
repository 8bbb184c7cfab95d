// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>

#include "fs/base/log.h"
#include "fs/mount/control_server.h"
#include "fs/mount/mount.h"
#include "fs/mount/upper_wait.h"
#include "fs/store/store.h"

namespace layerfs::mount {
namespace {

/// Shares ownership of the store, whose objects() is a part of it.
std::shared_ptr<const tree::BlobSource> blobs_of(const std::shared_ptr<store::Store>& store) {
  return {store, &store->objects()};
}

Result<std::shared_ptr<store::Store>> open_store(const std::string& root) {
  // Writing, since a chain that was not mounted yet gets its merged tree now; a store of somebody else's is
  // read as it is.
  auto opened = store::Store::open(root, store::StoreAccess::kWrite);
  if (!opened &&
      (opened.error().code == EACCES || opened.error().code == EROFS || opened.error().code == EPERM))
    opened = store::Store::open(root, store::StoreAccess::kRead);
  if (!opened) return std::unexpected(opened.error());
  return std::shared_ptr<store::Store>(std::move(*opened));
}

class Stack final : public MountedStack {
 public:
  Result<void> open_all(const MountRequest& request, OpenFor what, int device) {
    request_ = request;
    LAYERFS_ASSIGN(store_, open_store(request.store_root));
    LAYERFS_ASSIGN(auto lower, store_->get_tree(request.layers));
    std::shared_ptr<tree::UpperLayer> upper;
    if (!request.upper_dir.empty()) {
      LAYERFS_ASSIGN(upper, open_upper(request, what, device));
    }
    unionfs::UnionOptions options;
    options.read_only = request.fuse.read_only || upper == nullptr;
    options.is_volatile = request.is_volatile;
    options.keep_orphans = what == OpenFor::kTakeover;
    LAYERFS_ASSIGN(fs_,
                   unionfs::UnionFs::make(std::move(lower), blobs_of(store_), std::move(upper), options));
    return {};
  }

  unionfs::UnionFs& fs() override { return *fs_; }

  Result<void> start_control() override {
    if (request_.upper_dir.empty()) return {};
    LAYERFS_ASSIGN(control_, ControlServer::start(request_.upper_dir, *fs_, [this] { return stats(); }));
    return {};
  }

  Result<void> watch_connection(int device) override {
    if (!control_) return {};
    return control_->watch_connection(device);
  }

 private:
  std::string stats() const {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return fmt::format(
        R"({{"pid":{},"upper":"{}","layers":{},"volatile":{},"uptime_seconds":{},"max_resident_kib":{},)"
        R"("user_cpu_ms":{},"system_cpu_ms":{}}})",
        ::getpid(), request_.upper_id, request_.layers.size(), request_.is_volatile,
        std::time(nullptr) - started_, usage.ru_maxrss,
        usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000,
        usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000);
  }

  // Destroyed from below: the socket first, then the union with the upper, then the store under them.
  MountRequest request_;
  std::time_t started_ = std::time(nullptr);
  std::shared_ptr<store::Store> store_;
  std::unique_ptr<unionfs::UnionFs> fs_;
  std::unique_ptr<ControlServer> control_;
};

}  // namespace

Result<std::unique_ptr<MountedStack>> MountedStack::open(const MountRequest& request, OpenFor what,
                                                         int device) {
  auto stack = std::make_unique<Stack>();
  LAYERFS_TRY(stack->open_all(request, what, device));
  return stack;
}

}  // namespace layerfs::mount
