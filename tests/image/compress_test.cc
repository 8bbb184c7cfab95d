// SPDX-License-Identifier: Apache-2.0
#include "fs/image/compress.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string>

#include "fs/image/byte_source.h"
#include "fs/image/decompress.h"

namespace layerfs::image {
namespace {

std::string compressible_text(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::string text;
  while (text.size() < size) {
    text += "word" + std::to_string(random() % 1000);
    if (random() % 50 == 0) text += text.substr(text.size() / 2, 300);
  }
  text.resize(size);
  return text;
}

std::string encode(std::string_view input, EncoderOptions options, std::size_t piece) {
  std::string output;
  auto encoder = make_encoder(options, [&](std::string_view bytes) -> Result<void> {
    output += bytes;
    return {};
  });
  EXPECT_TRUE(encoder) << encoder.error().message();
  for (std::size_t at = 0; at < input.size(); at += piece)
    EXPECT_TRUE((*encoder)->write(input.substr(at, piece)));
  EXPECT_TRUE((*encoder)->finish());
  return output;
}

std::string decode(std::string_view compressed) {
  MemorySource source(compressed);
  auto codec = detect_codec(compressed);
  if (!codec) {
    ADD_FAILURE() << codec.error().message();
    return {};
  }
  auto opened = make_decompressor(source, *codec);
  if (!opened) {
    ADD_FAILURE() << opened.error().message();
    return {};
  }
  std::string text;
  std::vector<std::byte> buffer(1 << 16);
  for (;;) {
    auto got = (*opened)->read(buffer);
    if (!got) ADD_FAILURE() << got.error().message();
    if (!got || *got == 0) return text;
    text.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
}

constexpr std::size_t kSizes[] = {
    0, 1, 1000, kGzipPiece - 1, kGzipPiece, kGzipPiece + 1, 3 * kGzipPiece + 77};

class CompressTest : public testing::TestWithParam<Compression> {};

TEST_P(CompressTest, OutputDecodesToTheInput) {
  for (std::size_t size : kSizes) {
    std::string input = compressible_text(size);
    EXPECT_EQ(decode(encode(input, {.compression = GetParam(), .level = 0, .size = size}, 10000)), input)
        << size;
    EXPECT_EQ(decode(encode(input, {.compression = GetParam(), .level = 1, .size = {}}, SIZE_MAX)), input)
        << size;
  }
}

TEST_P(CompressTest, OutputIsTheSameForAnyThreadsAndWrites) {
  std::string input = compressible_text(3 * kGzipPiece + 77);
  EncoderOptions options{.compression = GetParam(), .level = 0, .size = input.size(), .threads = 1};
  std::string one = encode(input, options, SIZE_MAX);
  for (unsigned threads : {2U, 3U, 8U}) {
    options.threads = threads;
    EXPECT_EQ(encode(input, options, 4097), one) << threads;
  }
}

TEST_P(CompressTest, ErrorOfTheSinkStopsIt) {
  auto encoder = make_encoder({.compression = GetParam(), .level = 0, .size = {}},
                              [](std::string_view) -> Result<void> { return errno_error(ENOSPC); });
  ASSERT_TRUE(encoder);
  Result<void> result;
  std::string input = compressible_text(100000);
  for (int i = 0; i < 1000 && result; ++i) result = (*encoder)->write(input);
  if (result) result = (*encoder)->finish();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOSPC);
}

TEST_P(CompressTest, EncoderMayBeDroppedHalfWay) {
  auto encoder = make_encoder({.compression = GetParam(), .level = 0, .size = {}},
                              [](std::string_view) -> Result<void> { return {}; });
  ASSERT_TRUE(encoder);
  EXPECT_TRUE((*encoder)->write(compressible_text(2 * kGzipPiece)));
}

INSTANTIATE_TEST_SUITE_P(Formats, CompressTest,
                         testing::Values(Compression::kNone, Compression::kGzip, Compression::kZstd),
                         [](const auto& format) {
                           return format.param == Compression::kGzip   ? "gzip"
                                  : format.param == Compression::kZstd ? "zstd"
                                                                       : "none";
                         });

TEST(Gzip, IsOneMemberThatZlibReads) {
  std::string input = compressible_text(2 * kGzipPiece + 5);
  std::string packed = encode(input, {.compression = Compression::kGzip, .level = 6, .size = {}}, 30000);
  z_stream stream{};
  ASSERT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  std::string output(input.size() + 10, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(output.data());
  stream.avail_out = static_cast<uInt>(output.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0U);
  output.resize(stream.total_out);
  inflateEnd(&stream);
  EXPECT_EQ(output, input);
}

TEST(Gzip, LevelChangesTheSize) {
  std::string input = compressible_text(2 * kGzipPiece);
  auto size = [&](int level) {
    return encode(input, {.compression = Compression::kGzip, .level = level, .size = {}}, SIZE_MAX).size();
  };
  EXPECT_LT(size(9), size(1));
}

TEST(MakeEncoder, RefusesLevelsThatTheFormatLacks) {
  ByteSink sink = [](std::string_view) -> Result<void> { return {}; };
  EXPECT_FALSE(make_encoder({.compression = Compression::kGzip, .level = 10, .size = {}}, sink));
  EXPECT_FALSE(make_encoder({.compression = Compression::kZstd, .level = 23, .size = {}}, sink));
  EXPECT_FALSE(make_encoder({.compression = Compression::kGzip, .level = -1, .size = {}}, sink));
}

TEST(ParseCompression, KnowsThreeNames) {
  EXPECT_EQ(parse_compression("gzip").value(), Compression::kGzip);
  EXPECT_EQ(parse_compression("zstd").value(), Compression::kZstd);
  EXPECT_EQ(parse_compression("none").value(), Compression::kNone);
  EXPECT_FALSE(parse_compression("xz"));
}

}  // namespace
}  // namespace layerfs::image
