// SPDX-License-Identifier: Apache-2.0
// The channel, the state store, child processes, signals' names, and cgroups on plain directories.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "fs/base/sys_file.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/container/hooks.h"
#include "runtime/container/init_process.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/container/state_store.h"
#include "runtime/container/sync_channel.h"
#include "runtime/sys/cgroup.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"

namespace layerfs::container {
namespace {

using testing::HasSubstr;

class Directory : public testing::Test {
 protected:
  Directory() {
    std::string name = testing::TempDir() + "layerfs-runtime-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Directory() override { EXPECT_TRUE(remove_tree(path_)); }
  void write(const std::string& name, const std::string& text, mode_t mode = 0644) {
    auto fd = open_file(path_ + '/' + name, O_WRONLY | O_CREAT | O_TRUNC, mode);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(write_full(fd->get(), std::as_bytes(std::span(text))));
  }
  std::string path_;
};

TEST(SyncChannel, CarriesTextAndDescriptors) {
  auto ends = SyncChannel::make_pair();
  ASSERT_TRUE(ends);
  ASSERT_TRUE(ends->first.send(MessageKind::kFailed, 13, "mount '/x': denied", STDIN_FILENO));
  auto message = ends->second.receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, MessageKind::kFailed);
  EXPECT_EQ(message->value, 13);
  EXPECT_EQ(message->text, "mount '/x': denied");
  EXPECT_TRUE(message->fd);
  EXPECT_EQ(::fcntl(message->fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(SyncChannel, APeerThatIsGoneIsClosed) {
  auto ends = SyncChannel::make_pair();
  ends->second.close();
  EXPECT_EQ(ends->first.receive()->kind, MessageKind::kClosed);
  EXPECT_EQ(ends->first.send(MessageKind::kGo).error().code, EPIPE);
}

TEST(SyncChannel, LongTextsAreCut) {
  auto ends = SyncChannel::make_pair();
  ASSERT_TRUE(ends->first.send(MessageKind::kFailed, 1, std::string(100'000, 'x')));
  EXPECT_EQ(ends->second.receive()->text.size(), 4096U);
}

TEST(FinalStage, IsASealedProgram) {
  EXPECT_TRUE(
      final_stage_image().starts_with("\x7f"
                                      "ELF"));
  EXPECT_LT(final_stage_image().size(), 64U * 1024);
  auto fd = make_final_stage();
  ASSERT_TRUE(fd) << fd.error().message();
  EXPECT_EQ(::fcntl(fd->get(), F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  EXPECT_LT(::write(fd->get(), "x", 1), 0);
}

using StateStoreTest = Directory;

TEST_F(StateStoreTest, WritesAndReadsBack) {
  StateStore store(path_ + "/state");
  ContainerState state;
  state.id = "c1";
  state.oci_version = "1.0.2";
  state.bundle = "/b";
  state.pid = 7;
  state.ready = true;
  state.start_time = 12345678901ULL;
  state.cgroups = {"/a", "/b"};
  state.annotations = {{"k", "v \xff"}};
  ASSERT_TRUE(store.create("c1"));
  ASSERT_TRUE(store.write(state));
  auto read = store.read("c1");
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->pid, 7);
  EXPECT_TRUE(read->ready);
  EXPECT_EQ(read->start_time, state.start_time);
  EXPECT_EQ(read->cgroups, state.cgroups);
  EXPECT_EQ(*store.list(), (std::vector<std::string>{"c1"}));
  ASSERT_TRUE(store.remove("c1"));
  EXPECT_THAT(store.read("c1").error().message(), HasSubstr("does not exist"));
}

TEST_F(StateStoreTest, NamesAreUniqueAndChecked) {
  StateStore store(path_);
  ASSERT_TRUE(store.create("same"));
  EXPECT_EQ(store.create("same").error().code, EEXIST);
  for (const char* name : {"", ".", "..", "a/b", "a b", "\n"}) EXPECT_FALSE(store.create(name)) << name;
  EXPECT_FALSE(store.lock("absent"));
}

TEST_F(StateStoreTest, StatusIsReadOffTheFacts) {
  StateStore store(path_);
  ASSERT_TRUE(store.create("c"));
  ContainerState state;
  state.id = "c";
  EXPECT_EQ(*find_status(store, state), Status::kCreating);
  state.pid = ::getpid();
  state.start_time = **sys::find_start_time(::getpid());
  EXPECT_EQ(*find_status(store, state), Status::kCreating);  // or its creator died
  state.ready = true;
  EXPECT_EQ(*find_status(store, state), Status::kRunning);
  ASSERT_EQ(::mkfifo(store.start_fifo("c").c_str(), 0600), 0);
  EXPECT_EQ(*find_status(store, state), Status::kCreated);
  state.start_time += 1;  // another process of that pid
  EXPECT_EQ(*find_status(store, state), Status::kStopped);
}

TEST_F(StateStoreTest, WhatACreatorOrADeleteLeftGoesWithTheNext) {
  StateStore store(path_);
  ASSERT_EQ(::mkdir((path_ + "/c").c_str(), 0700), 0);  // a create that died after its first step: no lock
  ASSERT_TRUE(store.lock("c"));
  ASSERT_TRUE(store.remove("c"));
  EXPECT_TRUE(store.list()->empty());
  ASSERT_EQ(::mkdir((path_ + "/~c").c_str(), 0700), 0);  // a delete that died
  write("~c/state.json", "{}");
  EXPECT_TRUE(store.list()->empty());
  ASSERT_TRUE(store.create("c"));
  EXPECT_NE(::access((path_ + "/~c").c_str(), F_OK), 0);
}

TEST_F(StateStoreTest, DamagedStateIsNamed) {
  StateStore store(path_);
  ASSERT_TRUE(store.create("c"));
  for (const char* text : {"", "{}", "[]", R"({"version":1,"id":"other"})", R"({"version":99,"id":"c"})"}) {
    write("c/state.json", text);
    auto state = store.read("c");
    ASSERT_FALSE(state) << text;
    EXPECT_THAT(state.error().message(), HasSubstr("'c'"));
  }
}

TEST(Signals, NamesAndNumbers) {
  EXPECT_EQ(*parse_signal("KILL"), SIGKILL);
  EXPECT_EQ(*parse_signal("SIGTERM"), SIGTERM);
  EXPECT_EQ(*parse_signal("sigusr1"), SIGUSR1);
  EXPECT_EQ(*parse_signal("15"), 15);
  EXPECT_EQ(*parse_signal("RTMIN+3"), SIGRTMIN + 3);
  for (const char* text : {"", "WHAT", "-1", "999", "RTMIN+99"}) EXPECT_FALSE(parse_signal(text)) << text;
}

TEST(Children, ExitCodesAreTheShells) {
  auto pid = sys::spawn({"/bin/sh", {"sh", "-c", "exit 7"}, std::nullopt});
  ASSERT_TRUE(pid) << pid.error().message();
  EXPECT_EQ(sys::exit_code(*sys::wait_child(*pid)), 7);
  pid = sys::spawn({"/bin/sh", {"sh", "-c", "kill -9 $$"}, std::nullopt});
  EXPECT_EQ(sys::exit_code(*sys::wait_child(*pid)), 137);
  EXPECT_FALSE(sys::spawn({"/no/such/program", {"x"}, std::nullopt}));
}

using Hooks = Directory;

TEST_F(Hooks, GetTheStateAndTheirEnvironment) {
  spec::Hook hook;
  hook.path = "/bin/sh";
  hook.args = {"sh", "-c", "cat >" + path_ + "/state; echo \"$X\" >" + path_ + "/env"};
  hook.env = std::vector<std::string>{"PATH=/bin:/usr/bin", "X=1"};
  auto done = run_hooks({hook}, "prestart", R"({"id":"c"})", {});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(*read_file(path_ + "/state"), R"({"id":"c"})");
  EXPECT_EQ(*read_file(path_ + "/env"), "1\n");
}

TEST_F(Hooks, TheFirstFailureEndsAndIsNamed) {
  spec::Hook fails{"/bin/false", {}, {}, {}};
  spec::Hook touches{
      "/bin/sh", {"sh", "-c", "echo >" + path_ + "/ran"}, std::vector<std::string>{"PATH=/bin"}, {}};
  auto done = run_hooks({fails, touches}, "createRuntime", "{}", {});
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("'/bin/false': createRuntime hook failed with exit code 1"));
  EXPECT_NE(::access((path_ + "/ran").c_str(), F_OK), 0);
  run_poststop_hooks({.poststop = {fails, touches}}, "{}");
  EXPECT_EQ(::access((path_ + "/ran").c_str(), F_OK), 0);
}

TEST_F(Hooks, WriteWhereAnAnnotationSays) {
  spec::Hook says{"/bin/sh", {"sh", "-c", "echo out; echo error >&2"}, {}, {}};
  spec::Hooks hooks{.stdout_path = path_ + "/out", .stderr_path = path_ + "/err"};
  for (const char* text : {"", "again"}) {
    auto files = open_hook_files(hooks);
    ASSERT_TRUE(files) << files.error().message();
    ASSERT_TRUE(run_hooks({says}, "prestart", "{}", *files)) << text;
  }
  EXPECT_EQ(*read_file(path_ + "/out"), "out\nout\n");
  EXPECT_EQ(*read_file(path_ + "/err"), "error\nerror\n");
  hooks.stdout_path = path_ + "/no/such";
  EXPECT_THAT(open_hook_files(hooks).error().message(), HasSubstr("annotation 'run.oci.hooks.stdout'"));
}

TEST_F(Hooks, WithoutAnEnvironmentItHasTheRuntimesOwn) {
  ASSERT_EQ(::setenv("LAYERFS_TEST_HOOK", "inherited", 1), 0);
  std::string print = "echo \"$LAYERFS_TEST_HOOK\" >" + path_ + "/env";
  spec::Hook inherits{"/bin/sh", {"sh", "-c", print}, std::nullopt, {}};
  ASSERT_TRUE(run_hooks({inherits}, "prestart", "{}", {}));
  EXPECT_EQ(*read_file(path_ + "/env"), "inherited\n");
  spec::Hook empty{"/bin/sh", {"sh", "-c", print}, std::vector<std::string>{}, {}};
  ASSERT_TRUE(run_hooks({empty}, "prestart", "{}", {}));
  EXPECT_EQ(*read_file(path_ + "/env"), "\n");
  ::unsetenv("LAYERFS_TEST_HOOK");
}

TEST_F(Hooks, ASlowOneIsKilled) {
  spec::Hook slow{"/bin/sleep", {"sleep", "1000"}, {}, 1};
  auto done = run_hooks({slow}, "prestart", "{}", {});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ETIMEDOUT);
}

using FindProgram = Directory;

TEST_F(FindProgram, LooksAlongThePath) {
  write("tool", "#!/bin/sh\n", 0755);
  write("plain", "", 0644);
  std::vector<std::string> env{"PATH=/no/such:" + path_};
  EXPECT_EQ(*find_program("tool", env), path_ + "/tool");
  EXPECT_EQ(find_program("absent", env).error().code, ENOENT);
  EXPECT_THAT(find_program("absent", env).error().message(), HasSubstr("'absent'"));
  EXPECT_EQ(find_program("plain", env).error().code, EACCES);
  EXPECT_EQ(find_program(path_, env).error().code, EACCES) << "a directory";
  EXPECT_EQ(find_program(path_ + "/absent", env).error().code, ENOENT);
  EXPECT_FALSE(find_program("", env));
}

using Cgroups = Directory;

TEST_F(Cgroups, CountersAndFreezersOfBothVersions) {
  write("memory.events", "low 0\noom_kill 3\noom_group_kill 0\n");
  sys::CgroupDirs dirs({path_});
  EXPECT_EQ(dirs.out_of_memory_kills(), 3U);
  EXPECT_FALSE(dirs.is_frozen());
  write("cgroup.events", "populated 1\nfrozen 1\n");
  EXPECT_TRUE(dirs.is_frozen());
  ASSERT_EQ(::unlink((path_ + "/memory.events").c_str()), 0);
  write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
  EXPECT_EQ(dirs.out_of_memory_kills(), 2U);
  EXPECT_FALSE(sys::CgroupDirs().out_of_memory_kills());
}

TEST_F(Cgroups, AFailureLeavesNoGroup) {
  sys::CgroupRequest request;
  request.mount_point = path_;
  request.own_path = "/";
  request.settings = {{"no.such.file", "1", "linux.resources.x", false}};
  auto made = sys::CgroupDirs::create({request}, "/a/b");
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("linux.resources.x"));
  EXPECT_TRUE(list_dir(path_)->empty());
  request.settings.front().optional = true;
  made = sys::CgroupDirs::create({request}, "/a/b");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->paths(), (std::vector<std::string>{path_ + "/a/b"}));
  EXPECT_TRUE(made->remove());
  EXPECT_TRUE(made->remove()) << "removing twice is fine";
  EXPECT_FALSE(sys::CgroupDirs::create({request}, "/../x"));
}

}  // namespace
}  // namespace layerfs::container
