// UTF-8, white space, and Unicode as the published uncased BERT tokenizers see it: normal form and
// punctuation.
#pragma once
#include <string>
#include <string_view>

namespace pendulum {

// Bytes that are not UTF-8 become U+FFFD, which bert_normal_form removes.
std::u32string decode_utf8(std::string_view bytes);
std::string encode_utf8(std::u32string_view code_points);

// Unicode's property White_Space.
bool is_white_space(char32_t c);

// Control characters removed, white space made ' ', ideographs set between spaces, accents stripped
// (canonical decomposition without its marks), lower case.
std::u32string bert_normal_form(std::u32string_view code_points);

// Characters that are a word of their own: ASCII's symbols and Unicode's punctuation.
bool is_bert_punctuation(char32_t c);

}  // namespace pendulum
