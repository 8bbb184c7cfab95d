// SPDX-License-Identifier: Apache-2.0
#include "fs/image/image_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fs/base/sha256.h"

namespace layerfs::image {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kBase = R"({"architecture":"amd64","os":"linux","zzz":{"kept":[1,2]},
  "config":{"Env":["PATH=/bin","A=1"],"Cmd":["/bin/sh"],"WorkingDir":"/srv"},
  "rootfs":{"type":"layers","diff_ids":["sha256:01"]},
  "history":[{"created_by":"base"},{"created_by":"ENV A=1","empty_layer":true}]})";

ConfigLayer top() { return {sha256("layer"), 1764547200, "layerfs commit", "", ""}; }

Json edited(std::vector<std::string> changes, ConfigLayer layer = top()) {
  auto text = edit_config(kBase, layer, changes);
  if (!text) {
    ADD_FAILURE() << text.error().message();
    return {};
  }
  return Json::parse(*text);
}

std::string refusal(const std::string& change) {
  auto text = edit_config(kBase, top(), {change});
  return text ? "" : text.error().message();
}

TEST(EditConfig, PutsLayerAndHistoryOnTop) {
  Json json = edited({}, {sha256("layer"), 1764547200, "by", "An Author", "a message"});
  EXPECT_EQ(json["rootfs"]["diff_ids"].size(), 2U);
  EXPECT_EQ(json["rootfs"]["diff_ids"][1], sha256("layer").str());
  ASSERT_EQ(json["history"].size(), 3U);
  EXPECT_EQ(json["history"][2], Json::parse(R"({"created":"2025-12-01T00:00:00Z","created_by":"by",
      "author":"An Author","comment":"a message"})"));
  EXPECT_EQ(json["created"], "2025-12-01T00:00:00Z");
  EXPECT_EQ(json["author"], "An Author");
}

TEST(EditConfig, KeepsWhatItDoesNotKnow) {
  Json json = edited({});
  EXPECT_EQ(json["zzz"]["kept"], Json::parse("[1,2]"));
  EXPECT_EQ(json["config"], Json::parse(kBase)["config"]);
  EXPECT_FALSE(json.contains("author"));
}

TEST(EditConfig, FillsUpAHistoryThatIsShort) {
  auto text = edit_config(R"({"rootfs":{"type":"layers","diff_ids":["sha256:01","sha256:02"]}})", top(), {});
  ASSERT_TRUE(text);
  EXPECT_EQ(Json::parse(*text)["history"].size(), 3U);
}

TEST(EditConfig, CommandsTakeExecAndShellForm) {
  Json config = edited({R"(CMD ["/bin/echo","a b"])", "ENTRYPOINT=exec /init --x"})["config"];
  EXPECT_EQ(config["Cmd"], Json::parse(R"(["/bin/echo","a b"])"));
  EXPECT_EQ(config["Entrypoint"], Json::parse(R"(["/bin/sh","-c","exec /init --x"])"));
  EXPECT_TRUE(edited({"CMD="})["config"]["Cmd"].is_null());
}

TEST(EditConfig, EnvReplacesOrAppends) {
  Json config =
      edited({"ENV A=2", "ENV=B=x=y", "ENV C three words", R"(ENV D="quoted value" E=e\ f)"})["config"];
  EXPECT_EQ(config["Env"],
            Json::parse(R"(["PATH=/bin","A=2","B=x=y","C=three words","D=quoted value","E=e f"])"));
}

TEST(EditConfig, OtherInstructionsSetTheirFields) {
  Json config = edited({"USER 1000:100", "WORKDIR sub", "EXPOSE 80 53/udp 7000-7001/tcp", "LABEL a=1 b='2 3'",
                        R"(VOLUME ["/data","/log"])", "VOLUME /more", "stopsignal=SIGINT"})["config"];
  EXPECT_EQ(config["User"], "1000:100");
  EXPECT_EQ(config["WorkingDir"], "/srv/sub");
  EXPECT_EQ(config["ExposedPorts"], Json::parse(R"({"80/tcp":{},"53/udp":{},"7000/tcp":{},"7001/tcp":{}})"));
  EXPECT_EQ(config["Labels"], Json::parse(R"({"a":"1","b":"2 3"})"));
  EXPECT_EQ(config["Volumes"], Json::parse(R"({"/data":{},"/log":{},"/more":{}})"));
  EXPECT_EQ(config["StopSignal"], "SIGINT");
  EXPECT_EQ(edited({"WORKDIR /abs"})["config"]["WorkingDir"], "/abs");
}

TEST(EditConfig, RefusesWhatItCannotDo) {
  EXPECT_NE(refusal("RUN make").find("'RUN' is none of"), std::string::npos);
  EXPECT_NE(refusal("CMD"), "");
  EXPECT_NE(refusal("ENV"), "");
  EXPECT_NE(refusal("ENV NAME"), "");
  EXPECT_NE(refusal("ENV A=1 =2"), "");
  EXPECT_NE(refusal("LABEL a=\"open"), "");
  EXPECT_NE(refusal("EXPOSE http"), "");
  EXPECT_NE(refusal("EXPOSE 70000"), "");
  EXPECT_NE(refusal("EXPOSE 80/icmp"), "");
  EXPECT_NE(refusal("EXPOSE 90-80"), "");
}

TEST(EditConfig, RefusesWhatIsNoConfig) {
  for (std::string_view text : {"", "[]", "{", R"({"rootfs":{}})", R"({"rootfs":{"diff_ids":"x"}})"})
    EXPECT_FALSE(edit_config(text, top(), {})) << text;
}

TEST(EditConfig, SameEditGivesTheSameBytes) {
  EXPECT_EQ(edit_config(kBase, top(), {"LABEL a=1"}).value(),
            edit_config(kBase, top(), {"LABEL a=1"}).value());
}

TEST(Rfc3339, IsInUtc) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339(1764547200), "2025-12-01T00:00:00Z");
}

}  // namespace
}  // namespace layerfs::image
