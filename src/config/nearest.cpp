// Edit distance between words.
#include "config/nearest.h"

#include <algorithm>

namespace pendulum {

int edit_distance(const std::string& a, const std::string& b) {
  // row[i][j]: distance of the first i letters of a to the first j of b.
  std::vector<std::vector<int>> row(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        row[i][j] = static_cast<int>(i + j);
        continue;
      }
      const int replaced = row[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      row[i][j] = std::min({row[i - 1][j] + 1, row[i][j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[i][j] = std::min(row[i][j], row[i - 2][j - 2] + 1);
    }
  }
  return row[a.size()][b.size()];
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& valid) {
  constexpr size_t kLongest = 200;  // beyond it is no word that somebody mistyped
  if (word.size() > kLongest) return "";
  const std::string* best = nullptr;
  int best_distance = 0;
  for (const std::string& candidate : valid) {
    int distance = edit_distance(word, candidate);
    if (word.size() >= 3 && candidate.starts_with(word)) distance = 1;
    // A third of the letters may be wrong; of a short word, one.
    const int limit =
        std::max<int>(1, static_cast<int>(std::max(word.size(), candidate.size())) / 3);
    if (distance > limit || distance >= static_cast<int>(candidate.size())) continue;
    if (!best || distance < best_distance) best = &candidate, best_distance = distance;
  }
  return best ? "; did you mean \"" + *best + "\"?" : "";
}

std::string listed(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

}  // namespace pendulum
