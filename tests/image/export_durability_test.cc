// SPDX-License-Identifier: Apache-2.0
// What export has written has its name only once its bytes are on disk: after a power failure the name is that
// of the whole file, or of what was there before.
#include <algorithm>
#include <string>
#include <vector>

#include "fs/image/exporter.h"
#include "tests/image/import_support.h"
#include "tests/store/fault_points.h"

namespace layerfs::image {
namespace {

using store::fault::Event;

class ExportDurability : public ImportTest {
 protected:
  void SetUp() override {
    ImportTest::SetUp();
    LayoutBuilder builder;
    const auto manifest =
        builder.add_image({TarBuilder().dir("etc/").file("etc/a", "a\n").finish()}, Compression::kGzip);
    options_.name = "image:v1";
    auto imported = import("oci:" + write_layout(builder.finish({LayoutBuilder::tagged(manifest, "v1")})));
    ASSERT_TRUE(imported) << imported.error().message();
    image_ = *imported;
  }
  /// Exports; looks that each name is given to what had been flushed under the name before.
  void export_to(const std::string& destination) {
    store::fault::record_events();
    const auto done = export_image(*store_, image_, destination, {});
    events_ = store::fault::take_events();
    ASSERT_TRUE(done) << done.error().message();
    for (std::size_t at = 0; at < events_.size(); ++at) {
      const Event& event = events_[at];
      if (event.call != "rename") continue;
      EXPECT_TRUE(is_flushed(event.path, at)) << event.to << " has its name before its bytes are on disk";
    }
  }
  /// Whether `path` was flushed before the event `end`.
  bool is_flushed(const std::string& path, std::size_t end) const {
    return std::any_of(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](const Event& event) { return event.call != "rename" && event.path == path; });
  }
  /// The event that gave `path` its name; the number of events where none did.
  std::size_t naming_of(const std::string& path) const {
    const auto found = std::find_if(events_.begin(), events_.end(), [&](const Event& event) {
      return event.call == "rename" && event.to == path;
    });
    return static_cast<std::size_t>(found - events_.begin());
  }

  std::vector<Event> events_;
  store::ImageRecord image_;
};

TEST_F(ExportDurability, ATarsBytesComeBeforeItsName) {
  export_to("tar:" + dir_ / "x.tar");
  EXPECT_LT(naming_of(dir_ / "x.tar"), events_.size());
}

TEST_F(ExportDurability, AnArchivesBytesComeBeforeItsName) {
  export_to("oci-archive:" + dir_ / "x.oci");
  EXPECT_LT(naming_of(dir_ / "x.oci"), events_.size());
}

// Blobs, then their directories, then the index that names them, then the name of a new layout.
TEST_F(ExportDurability, ALayoutsBlobsComeBeforeItsIndex) {
  const std::string target = dir_ / "new";
  export_to("oci:" + target);
  const std::size_t named = naming_of(target);
  ASSERT_LT(named, events_.size());
  const std::string work = events_[named].path;
  const std::size_t index = naming_of(work + "/index.json");
  ASSERT_LT(index, named);
  EXPECT_TRUE(is_flushed(work, named));
  for (const char* directory : {"/blobs", "/blobs/sha256"})
    EXPECT_TRUE(is_flushed(work + directory, index)) << directory;
}

}  // namespace
}  // namespace layerfs::image
