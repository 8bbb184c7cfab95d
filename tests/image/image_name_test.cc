// SPDX-License-Identifier: Apache-2.0
#include "fs/image/image_name.h"

#include <gtest/gtest.h>

namespace layerfs::image {
namespace {

TEST(ImageName, DockersOwnImagesGoByTwoNames) {
  EXPECT_TRUE(is_same_name("debian:12", "docker.io/library/debian:12"));
  EXPECT_TRUE(is_same_name("docker.io/app/web", "app/web:latest"));
  EXPECT_TRUE(is_same_name("no name!", "no name!"));
  EXPECT_FALSE(is_same_name("no name!", "no name?"));
  EXPECT_FALSE(is_same_name("debian:12", "debian:13"));
  EXPECT_FALSE(is_same_name("debian:12", "quay.io/library/debian:12"));
}

TEST(ImageName, AFilesNameBecomesARepositorys) {
  EXPECT_EQ(repository_name("dir/Node V1.tar.gz"), "node-v1");
  EXPECT_EQ(repository_name("dir/image.oci///"), "image");
  EXPECT_EQ(repository_name("a__b..c--.tgz"), "a_b.c");
  EXPECT_EQ(repository_name("/"), "");
  EXPECT_EQ(repository_name("..."), "");
}

}  // namespace
}  // namespace layerfs::image
