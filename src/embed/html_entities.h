// HTML's named character references: what "&eacute;" stands for.
#pragma once
#include <string>
#include <string_view>

namespace pendulum {

// reference: without '&', with its semicolon where it has one ("eacute;"; some old names such as
// "eacute" count without). Null where there is none of that name.
const std::u32string* html_entity(std::string_view reference);

}  // namespace pendulum
