// SPDX-License-Identifier: Apache-2.0
#include "tools/json_text.h"

#include <gtest/gtest.h>

namespace layerfs::tools {
namespace {

TEST(JsonText, TakesWhateverBytesThereAre) {
  nlohmann::ordered_json object{{"path", "/a\xff\xc3/b"}, {"id", "c"}};
  EXPECT_EQ(json_line(object), "{\"path\":\"/a\xEF\xBF\xBD\xEF\xBF\xBD/b\",\"id\":\"c\"}\n");
  EXPECT_EQ(json_text(object), "{\n    \"path\": \"/a\xEF\xBF\xBD\xEF\xBF\xBD/b\",\n    \"id\": \"c\"\n}\n");
}

}  // namespace
}  // namespace layerfs::tools
