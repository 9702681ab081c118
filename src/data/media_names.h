// Which files are pictures and clips, by their names.
#pragma once
#include <string>

namespace pendulum {

// ASCII letters alone.
std::string lower_case(std::string word);

// extension: without its dot, in lower case.
bool is_media_extension(const std::string& extension);

}  // namespace pendulum
