// SPDX-License-Identifier: Apache-2.0
#include "fs/image/decompress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/image/compress.h"

namespace layerfs::image {
namespace {

using testing::HasSubstr;
using std::string_literals::operator""s;

std::string encode(std::string_view input, Compression compression) {
  std::string output;
  EncoderOptions options;
  options.compression = compression;
  auto encoder = make_encoder(options, [&](std::string_view bytes) -> Result<void> {
    output += bytes;
    return {};
  });
  EXPECT_TRUE(encoder && (*encoder)->write(input) && (*encoder)->finish());
  return output;
}

struct Decoded {
  std::string text;
  std::string error;
};

/// Input in pieces of `in`, output in buffers of `out`.
Decoded decode(std::string_view bytes, Codec codec, std::size_t in = SIZE_MAX, std::size_t out = 4096) {
  Decoded decoded;
  MemorySource source(bytes, in);
  auto stream = make_decompressor(source, codec);
  std::vector<std::byte> buffer(out);
  for (;;) {
    auto got = (*stream)->read(buffer);
    if (!got) {
      decoded.error = got.error().message();
      return decoded;
    }
    if (*got == 0) {
      EXPECT_EQ(*(*stream)->read(buffer), 0U) << "the end is the end";
      return decoded;
    }
    decoded.text += as_text(std::span(buffer).first(*got));
  }
}

std::string numbered_lines(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; text.size() < size; ++i) text += "line " + std::to_string(i * i % 977) + "\n";
  text.resize(size);
  return text;
}

class BothCodecs : public testing::TestWithParam<Codec> {
 protected:
  std::string compress(std::string_view text) const {
    return encode(text, GetParam() == Codec::kGzip ? Compression::kGzip : Compression::kZstd);
  }
};

TEST_P(BothCodecs, GiveTheTextWhateverThePieces) {
  const std::string text = numbered_lines(300'000);
  const std::string bytes = compress(text);
  EXPECT_EQ(*detect_codec(bytes), GetParam());
  for (std::size_t in : {1UL, 7UL, 1000UL, SIZE_MAX})
    for (std::size_t out : {13UL, 4096UL, 1UL << 20}) {
      Decoded decoded = decode(bytes, GetParam(), in, out);
      EXPECT_EQ(decoded.error, "");
      EXPECT_TRUE(decoded.text == text) << in << " in, " << out << " out";
    }
}

TEST_P(BothCodecs, ManyMembersOrFramesAreOneStream) {
  std::string bytes;
  std::string text;
  for (std::size_t size : {0UL, 1UL, 100'000UL, 0UL, 5UL}) {
    std::string part = numbered_lines(size);
    bytes += compress(part);
    text += part;
  }
  for (std::size_t in : {1UL, 1000UL, SIZE_MAX}) {
    Decoded decoded = decode(bytes, GetParam(), in);
    EXPECT_EQ(decoded.error, "");
    EXPECT_TRUE(decoded.text == text);
  }
}

TEST_P(BothCodecs, CutAnywhereIsTruncated) {
  const std::string text = numbered_lines(2000);
  const std::string bytes = compress(text);
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    Decoded decoded = decode(std::string_view(bytes).substr(0, size), GetParam());
    EXPECT_THAT(decoded.error, HasSubstr("truncated")) << size;
    EXPECT_TRUE(text.starts_with(decoded.text));
  }
}

TEST_P(BothCodecs, ChangedBytesNeverCrashAndNeverPass) {
  const std::string text = numbered_lines(2000);
  const std::string bytes = compress(text);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned char flip : {0x01, 0x80, 0xff}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ flip);
      Decoded decoded = decode(changed, GetParam());
      // Bytes of the header that mean nothing may change; the text may not.
      EXPECT_TRUE(!decoded.error.empty() || decoded.text == text) << at;
    }
  }
}

TEST_P(BothCodecs, GarbageAfterTheEndIsRefused) {
  std::string bytes = compress("text");
  EXPECT_NE(decode(bytes + "garbage", GetParam()).error, "");
}

INSTANTIATE_TEST_SUITE_P(Decompress, BothCodecs, testing::Values(Codec::kGzip, Codec::kZstd),
                         [](const auto& tested) { return tested.param == Codec::kGzip ? "gzip" : "zstd"; });

TEST(Gzip, ZeroPaddingAfterTheEndIsIgnored) {
  std::string bytes = encode("text", Compression::kGzip) + std::string(100'000, '\0');
  EXPECT_EQ(decode(bytes, Codec::kGzip).text, "text");
  EXPECT_EQ(decode(bytes, Codec::kGzip).error, "");
  EXPECT_THAT(decode(bytes + "x", Codec::kGzip).error, HasSubstr("garbage after the end"));
  EXPECT_THAT(decode(bytes + encode("t", Compression::kGzip), Codec::kGzip).error, HasSubstr("garbage"));
}

TEST(Gzip, OptionalHeaderFields) {
  // FLG: header CRC no, extra, name and comment yes.
  std::string plain = encode("text", Compression::kGzip);
  std::string header =
      plain.substr(0, 3) + "\x1c"s + plain.substr(4, 6) + "\x04\x00"s + "abcd" + "name\0"s + "comment\0"s;
  for (std::size_t in : {1UL, SIZE_MAX}) {
    Decoded decoded = decode(header + plain.substr(10), Codec::kGzip, in);
    EXPECT_EQ(decoded.error, "");
    EXPECT_EQ(decoded.text, "text");
  }
}

TEST(Zstd, SkippableFramesAreSkippedWhereverTheyStand) {
  std::string skippable = "\x53\x2a\x4d\x18\x05\x00\x00\x00"s + "hello";
  EXPECT_EQ(*detect_codec(skippable), Codec::kZstd);
  std::string text = numbered_lines(50'000);
  std::string bytes = skippable + encode(text, Compression::kZstd) + skippable + skippable +
                      encode(text, Compression::kZstd) + skippable;
  for (std::size_t in : {1UL, SIZE_MAX}) {
    Decoded decoded = decode(bytes, Codec::kZstd, in);
    EXPECT_EQ(decoded.error, "");
    EXPECT_TRUE(decoded.text == text + text);
  }
  EXPECT_THAT(decode(bytes.substr(0, bytes.size() - 2), Codec::kZstd).error, HasSubstr("truncated"));
}

TEST(DetectCodec, KnowsWhatItCannotRead) {
  EXPECT_EQ(*detect_codec("ustar"), Codec::kPlain);
  EXPECT_EQ(*detect_codec(""), Codec::kPlain);
  EXPECT_EQ(*detect_codec("\x1f"), Codec::kPlain);
  for (std::string_view head : {"BZh9",
                                "\xfd"
                                "7zX",
                                "\x04\x22\x4d\x18"})
    EXPECT_EQ(detect_codec(head).error().kind, ErrorKind::kUnsupported);
}

TEST(PeekSource, GivesTheBytesAgain) {
  for (std::size_t piece : {1UL, 3UL, 100UL}) {
    MemorySource source("0123456789", piece);
    PeekSource peeked(source);
    EXPECT_EQ(*peeked.peek(), "0123");
    std::string all;
    char buffer[3];
    for (;;) {
      auto got = peeked.read(std::as_writable_bytes(std::span(buffer)));
      ASSERT_TRUE(got);
      if (*got == 0) break;
      all.append(buffer, *got);
    }
    EXPECT_EQ(all, "0123456789");
  }
  MemorySource empty("");
  PeekSource peeked(empty);
  EXPECT_EQ(*peeked.peek(), "");
}

TEST(Decompress, ZstdWindowsUpTo2GiBAreTakenAndLimited) {
  // `zstd --long=28 -c`: the frame says a window of 256 MiB and no size.
  std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  ASSERT_EQ(ZSTD_isError(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, 28)), 0U);
  std::string text = numbered_lines(300'000);
  std::string bytes(ZSTD_compressBound(text.size()), '\0');
  ZSTD_outBuffer out{bytes.data(), bytes.size(), 0};
  // Two calls, so that the frame's head can't know the size.
  ZSTD_inBuffer first{text.data(), text.size() / 2, 0};
  ASSERT_EQ(ZSTD_isError(ZSTD_compressStream2(context.get(), &out, &first, ZSTD_e_flush)), 0U);
  ZSTD_inBuffer second{text.data() + text.size() / 2, text.size() - text.size() / 2, 0};
  ASSERT_EQ(ZSTD_compressStream2(context.get(), &out, &second, ZSTD_e_end), 0U);
  bytes.resize(out.pos);

  EXPECT_EQ(decode(bytes, Codec::kZstd).text, text);
  MemorySource source(bytes);
  auto limited = make_decompressor(source, Codec::kZstd, {.window = std::uint64_t{128} << 20});
  std::vector<std::byte> buffer(4096);
  auto got = (*limited)->read(buffer);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(got.error().message(), HasSubstr("a window of more than 134217728 bytes"));

  // An empty frame of a window of 1 GiB: more than is taken unless it is asked for.
  const std::string large("\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00", 9);
  MemorySource large_source(large);
  got = (*make_decompressor(large_source, Codec::kZstd))->read(buffer);
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message(), HasSubstr("a window of more than 536870912 bytes"));
  MemorySource again(large);
  got = (*make_decompressor(again, Codec::kZstd, {.window = std::uint64_t{2} << 30}))->read(buffer);
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(*got, 0U);
}

}  // namespace
}  // namespace layerfs::image
