// SPDX-License-Identifier: Apache-2.0
// Results and their messages, and the small owners: Fd, ScopeExit, FunctionRef, LAYERFS_CHECK, the log.
#include "fs/base/result.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "fs/base/check.h"
#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"

namespace layerfs {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Result, MessageNamesOperationSubjectAndReason) {
  EXPECT_EQ(system_error(ENOENT, "open layer", "sha256:ab").error().message(),
            "open layer 'sha256:ab': no such file or directory");
  EXPECT_EQ(system_error(ENOSPC, "write").error().message(), "write: no space left on device");
  EXPECT_EQ(invalid_error("parse digest", "x", "not hex").error().message(), "parse digest 'x': not hex");
}

TEST(Result, MessagesAreOneLineOfPrintableTextWhateverTheyQuote) {
  std::string hostile = "a\x1b[2Jb\nc\r\x7f\xc2\x9b\xff\xe2\x80\xae";
  hostile += '\0';
  std::string shown = "a\\x1b[2Jb\\x0ac\\x0d\\x7f\\xc2\\x9b\\xff\\xe2\\x80\\xae\\x00";
  EXPECT_EQ(system_error(ENOENT, "open", hostile).error().message(),
            "open '" + shown + "': no such file or directory");
  EXPECT_EQ(invalid_error("parse", "x", hostile).error().message(), "parse 'x': " + shown);
  EXPECT_EQ(with_context(errno_error(EIO).error(), "read", hostile).error().message(),
            "read '" + shown + "': input/output error");
  EXPECT_EQ(printable("Grüße, 世界 \\x", 100), "Grüße, 世界 \\x");
}

TEST(Result, MessagesHaveAnEndWhateverTheyQuote) {
  std::string subject = "begin" + std::string(1'000'000, 'x') + "end";
  std::string message = system_error(ENOENT, "open", subject).error().message();
  EXPECT_TRUE(message.starts_with("open 'beginxxx"));
  EXPECT_TRUE(message.ends_with("xxxend': no such file or directory"));
  EXPECT_LT(message.size(), 600U);
  std::string reason(1'000'000, '\n');
  Error error = invalid_error("parse", subject, reason).error();
  for (int i = 0; i < 100; ++i) error = with_context(error, "in", subject).error();
  EXPECT_LE(error.message().size(), kMaxMessage);
  EXPECT_EQ(error.message().find('\n'), std::string::npos);
}

TEST(Result, TextIsCutBetweenCharacters) {
  EXPECT_EQ(printable("abcdefgh", 8), "abcdefgh");
  EXPECT_EQ(printable("abcdefghi", 8), "abcd...i");
  EXPECT_EQ(printable("aaäöüß", 9), "aaä...ß");
  EXPECT_EQ(printable("\n\n\n\n\n", 14), "\\x0a...\\x0a");
}

TEST(Result, BareErrnoSaysWhatTheErrnoMeans) {
  Error error = errno_error(EACCES).error();
  EXPECT_EQ(error.message(), "permission denied");
  EXPECT_TRUE(error.context.empty());
}

TEST(Result, ReasonKeepsAnAcronymsCapitals) { EXPECT_EQ(errno_text(EXDEV), "invalid cross-device link"); }

TEST(Result, ContextIsAddedOutermostFirst) {
  Error inner = system_error(EIO, "read", "blob").error();
  Error outer = with_context(with_context(inner, "import layer", "3").error(), "import", "oci:dir").error();
  EXPECT_EQ(outer.message(), "import 'oci:dir': import layer '3': read 'blob': input/output error");
  EXPECT_EQ(outer.code, EIO);
  EXPECT_EQ(with_context(errno_error(EIO).error(), "sync").error().message(), "sync: input/output error");
}

TEST(Result, EachKindHasItsErrno) {
  EXPECT_EQ(corrupt_error("a", "b", "c").error().code, EIO);
  EXPECT_EQ(corrupt_error("a", "b", "c").error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(invalid_error("a", "b", "c").error().code, EINVAL);
  EXPECT_EQ(unsupported_error("a", "b", "c").error().code, EOPNOTSUPP);
  EXPECT_EQ(system_error(EPERM, "a").error().kind, ErrorKind::kSystem);
}

Result<int> half(int value) {
  if (value % 2 != 0) return invalid_error("halve", std::to_string(value), "odd");
  return value / 2;
}

Result<int> quarter(int value) {
  LAYERFS_ASSIGN(int once, half(value));
  LAYERFS_ASSIGN(int twice, half(once));
  return twice;
}

Result<void> halves(int value) {
  LAYERFS_TRY(half(value));
  return {};
}

TEST(Result, MacrosPassValuesOnAndErrorsUp) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().message(), "halve '3': odd");
  EXPECT_TRUE(halves(2));
  EXPECT_EQ(halves(1).error().message(), "halve '1': odd");
}

Result<std::unique_ptr<int>> make_unique_int() { return std::make_unique<int>(7); }

TEST(Result, AssignMovesValuesThatCannotBeCopied) {
  auto take = []() -> Result<int> {
    LAYERFS_ASSIGN(auto value, make_unique_int());
    return *value;
  };
  EXPECT_EQ(*take(), 7);
}

TEST(Fd, ClosesWhatItOwnsOnce) {
  int raw = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(raw, 0);
  {
    Fd fd(raw);
    Fd moved = std::move(fd);
    EXPECT_FALSE(fd);
    EXPECT_EQ(moved.get(), raw);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
}

TEST(Fd, ReleaseGivesUpWithoutClosing) {
  Fd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int raw = fd.release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(raw));
  fd.reset(raw);
}

TEST(Fd, AssignmentClosesTheOldOne) {
  Fd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  Fd second(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int old = first.get();
  int kept = second.get();
  first = std::move(second);
  EXPECT_FALSE(is_open(old));
  EXPECT_EQ(first.get(), kept);
  Fd& self = first;
  first = std::move(self);
  EXPECT_TRUE(is_open(kept));
}

TEST(ScopeExit, RunsAtTheEndUnlessReleased) {
  int runs = 0;
  {
    ScopeExit count([&] { ++runs; });
    EXPECT_EQ(runs, 0);
  }
  EXPECT_EQ(runs, 1);
  {
    ScopeExit count([&] { ++runs; });
    count.release();
  }
  EXPECT_EQ(runs, 1);
}

int call_twice(FunctionRef<int(int)> function) { return function(1) + function(2); }

TEST(FunctionRef, CallsLambdasFunctionsAndMutableState) {
  int offset = 10;
  EXPECT_EQ(call_twice([&](int value) { return value + offset; }), 23);
  EXPECT_EQ(call_twice([calls = 0](int) mutable { return ++calls; }), 3) << "the callable itself, not a copy";
  auto named = [](int value) { return -value; };
  EXPECT_EQ(call_twice(named), -3);
}

TEST(FunctionRef, ForwardsWhatCannotBeCopied) {
  FunctionRef<int(std::unique_ptr<int>)> function = [](std::unique_ptr<int> value) { return *value; };
  EXPECT_EQ(function(std::make_unique<int>(5)), 5);
}

TEST(Check, ThrowsWithThePlaceAndTheExpression) {
  EXPECT_NO_THROW(LAYERFS_CHECK(1 + 1 == 2));
  try {
    LAYERFS_CHECK(1 + 1 == 3);
    FAIL() << "not thrown";
  } catch (const CheckFailure& failure) {
    EXPECT_NE(std::string(failure.what()).find("result_test.cc:"), std::string::npos);
    EXPECT_NE(std::string(failure.what()).find("1 + 1 == 3"), std::string::npos);
  }
}

class Log : public testing::Test {
 protected:
  Log() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    read_end_.reset(ends[0]);
    write_end_.reset(ends[1]);
    set_log_fd(write_end_.get());
  }
  ~Log() override {
    set_log_fd(STDERR_FILENO);
    set_log_level(LogLevel::kWarning);
  }
  std::string logged() {
    char buffer[4096];
    ssize_t size = ::read(read_end_.get(), buffer, sizeof buffer);
    return {buffer, size > 0 ? static_cast<std::size_t>(size) : 0};
  }

 private:
  Fd read_end_;
  Fd write_end_;
};

TEST_F(Log, WritesWholeLinesUpToItsLevel) {
  log_error("open '{}'", "x");
  log_warning("slow");
  log_info("not at the default level");
  EXPECT_EQ(logged(), "layerfs: error: open 'x'\nlayerfs: warning: slow\n");
  set_log_level(LogLevel::kDebug);
  log_debug("{}", 1);
  log_info("{}", 2);
  EXPECT_EQ(logged(), "layerfs: debug: 1\nlayerfs: info: 2\n");
  set_log_level(LogLevel::kError);
  log_warning("dropped");
  EXPECT_EQ(logged(), "");
}

TEST_F(Log, ACloseThatFailsIsLoggedAndNotReported) {
  int raw = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  Fd fd(raw);
  ASSERT_EQ(::close(raw), 0);
  fd.reset();
  EXPECT_NE(logged().find("bad file descriptor"), std::string::npos);
}

}  // namespace
}  // namespace layerfs
