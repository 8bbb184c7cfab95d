// SPDX-License-Identifier: Apache-2.0
// fmt as an archive, for programs that are linked statically: every function of its headers, compiled here
// and nowhere else (tools/cmake/LayerfsDependencies.cmake).
#define FMT_HEADER_ONLY 1
#include <fmt/format.h>

#include <locale>

// <fmt/chrono.h> leaves it to the library.
template std::locale fmt::detail::locale_ref::get<std::locale>() const;
