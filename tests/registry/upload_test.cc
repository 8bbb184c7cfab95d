// SPDX-License-Identifier: Apache-2.0
// What registries say of an upload.
#include <gtest/gtest.h>

#include "fs/registry/blob_upload.h"

namespace layerfs::registry {
namespace {

TEST(UploadRange, SaysHowManyBytesAreThere) {
  EXPECT_EQ(parse_upload_range("0-99"), 100U);
  EXPECT_EQ(parse_upload_range("bytes=0-99"), 100U);
  EXPECT_EQ(parse_upload_range("bytes 0-1"), 2U);
  // Registries say it of an upload that has just begun.
  EXPECT_EQ(parse_upload_range("0-0"), 0U);
}

TEST(UploadRange, WhatIsNoneIsNotTaken) {
  for (const char* text : {"", "0", "0-", "-5", "1-5", "0-x", "0-5x", "0--1", "0-18446744073709551615",
                           "0-99999999999999999999999", "bytes=", "0-5,7-9"})
    EXPECT_EQ(parse_upload_range(text), std::nullopt) << text;
}

}  // namespace
}  // namespace layerfs::registry
