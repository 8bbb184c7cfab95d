// SPDX-License-Identifier: Apache-2.0
// The final stage's program (final_stage/final_stage.h) as bytes in this binary, and as a sealed memfd.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::container {

/// The program, an ELF file.
std::string_view final_stage_image();
/// A memfd with the program that nobody can write any more. Errors: ENOSYS, EPERM, ENOMEM.
Result<Fd> make_final_stage();
/// A sealed memfd with a program's `bytes`. Errors: as above.
Result<Fd> make_sealed_program(const char* name, std::string_view bytes);
/// A sealed memfd with `bytes`: what the stage is told.
Result<Fd> make_sealed_file(const char* name, std::string_view bytes);

}  // namespace layerfs::container
