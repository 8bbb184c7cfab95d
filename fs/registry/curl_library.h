// SPDX-License-Identifier: Apache-2.0
// libcurl's functions, loaded when a registry is first asked: with all that it stands on it takes longer to load than a
// container to start, and most commands ask no registry. Included by http.cc alone.
#pragma once

#define CURL_DISABLE_TYPECHECK  // those macros are for the functions themselves
#include <curl/curl.h>

#include "fs/base/result.h"

// For the same reason: macros of the same names.
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt
#undef curl_share_setopt

namespace layerfs::registry {

#define LAYERFS_CURL_FUNCTIONS(use)                                                                    \
  use(curl_global_init) use(curl_easy_init) use(curl_easy_cleanup) use(curl_easy_reset)                \
      use(curl_easy_setopt) use(curl_easy_getinfo) use(curl_easy_pause) use(curl_easy_strerror)        \
          use(curl_multi_init) use(curl_multi_cleanup) use(curl_multi_add_handle)                      \
              use(curl_multi_remove_handle) use(curl_multi_perform) use(curl_multi_poll)               \
                  use(curl_multi_info_read) use(curl_multi_setopt) use(curl_multi_strerror)            \
                      use(curl_share_init) use(curl_share_setopt) use(curl_share_cleanup)              \
                          use(curl_slist_append) use(curl_slist_free_all) use(curl_url)                \
                              use(curl_url_cleanup) use(curl_url_set) use(curl_url_get) use(curl_free) \
                                  use(curl_getdate)

/// The functions, by their own names.
struct CurlLibrary {
#define LAYERFS_DECLARE(name) decltype(&::name) name = nullptr;
  LAYERFS_CURL_FUNCTIONS(LAYERFS_DECLARE)
#undef LAYERFS_DECLARE
};

/// Loads and initialises it once for the process; it stays loaded. Any thread. Errors: kUnsupported where there is no
/// libcurl, or one older than 7.85.
Result<const CurlLibrary*> load_curl();

}  // namespace layerfs::registry
