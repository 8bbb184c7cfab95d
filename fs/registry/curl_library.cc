// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/curl_library.h"

#include <dlfcn.h>

namespace layerfs::registry {

namespace {

Result<CurlLibrary> load() {
  void* library = ::dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = ::dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return unsupported_error("load", "libcurl.so.4", ::dlerror());
  CurlLibrary curl;
  const char* missing = nullptr;
#define LAYERFS_LOAD(name)                                                  \
  curl.name = reinterpret_cast<decltype(&::name)>(::dlsym(library, #name)); \
  if (curl.name == nullptr) missing = #name;
  LAYERFS_CURL_FUNCTIONS(LAYERFS_LOAD)
#undef LAYERFS_LOAD
  if (missing != nullptr)
    return unsupported_error("load", "libcurl.so.4", std::string("it has no function ") + missing);
  if (curl.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    return unsupported_error("load", "libcurl.so.4", "it does not begin");
  return curl;
}

}  // namespace

Result<const CurlLibrary*> load_curl() {
  static const Result<CurlLibrary> kLoaded = load();
  if (!kLoaded) return std::unexpected(kLoaded.error());
  return &*kLoaded;
}

}  // namespace layerfs::registry
