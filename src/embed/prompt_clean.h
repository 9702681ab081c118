// A caption as Wan's pipelines clean it before it is cut into tokens.
#pragma once
#include <string>
#include <string_view>

namespace pendulum {

// Python's html.unescape: "&lt;", "&#x3c;" and "&#60;" become "<". Bytes that are not UTF-8 become
// U+FFFD.
std::string html_unescape(std::string_view text);

// diffusers' prompt_clean (pipeline_wan.py) and Wan's own: html.unescape twice, white space
// collapsed to single spaces and taken off both ends. Before that both run ftfy.fix_text, of which
// this does what changes the tokens of text that was decoded rightly: curly quotes become straight
// ones and control characters go (other spellings, such as ligatures and full width, the
// tokenizer's normal form takes care of). Text that went through a wrong encoding ("schÃ¶n") and
// terminals' escape sequences, which ftfy repairs too, stay as they are.
std::string clean_prompt(std::string_view prompt);

}  // namespace pendulum
