// Finds the word that was probably meant.
#pragma once
#include <string>
#include <vector>

namespace pendulum {

// Edits that lead from one word to the other: insert, delete, replace, swap of neighbours, each
// counts 1.
int edit_distance(const std::string& a, const std::string& b);

// "; did you mean \"lr\"?" where one of the valid words is near, else nothing.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& valid);

// "a, b, c".
std::string listed(const std::vector<std::string>& words);

}  // namespace pendulum
