// Reads single values strictly: no conversion between types, no NaN, no infinity, nothing out of
// range.
#pragma once
#include <cstdint>
#include <string>

#include "config/document.h"
#include "config/spec.h"

namespace pendulum {

// All throw ConfigError with place, path, what was found and what was expected.
int64_t read_integer(const Value& value, const std::string& path, const Spec& spec, int64_t lowest,
                     int64_t highest);
uint64_t read_unsigned(const Value& value, const std::string& path, const Spec& spec);
double read_number(const Value& value, const std::string& path, const Spec& spec);
bool read_bool(const Value& value, const std::string& path);
// Choices and pattern of the spec hold for it.
std::string read_words(const Value& value, const std::string& path, const Spec& spec);
// The text of an unquoted scalar; fails with "expected <form>".
const std::string& plain_text(const Value& value, const std::string& path, const std::string& form);

void check_range(double number, const Value& value, const std::string& path,
                 const std::string& form, const Spec& spec);
void check_pattern(const std::string& words, const Value& value, const std::string& path,
                   const Spec& spec);

// "expected <form>, found <value>".
[[noreturn]] void fail_expected(const Value& value, const std::string& path,
                                const std::string& form);

}  // namespace pendulum
