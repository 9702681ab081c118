// The members of a JSON object, each with what it must be.
#pragma once
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace pendulum {

// Every call gives the member `key`, or a DataError "PATH: KEY is missing" or "PATH: KEY is FOUND:
// expected ...". A member that is null is a missing one.
class JsonFields {
 public:
  // An object of the file `path`; `json` outlives this. `within`: where the object stands in it,
  // "generate."; empty for the file's own.
  JsonFields(const nlohmann::json& json, std::string path, std::string within = "");

  bool has(const std::string& key) const;
  const nlohmann::json& at(const std::string& key) const;
  JsonFields object(const std::string& key) const;
  std::string words(const std::string& key) const;
  std::string one_of(const std::string& key, std::initializer_list<const char*> words) const;
  bool flag(const std::string& key) const;
  double number(const std::string& key) const;
  // Where only a damaged file asks for more, `most` is left out.
  int whole(const std::string& key, int least, int most = 1 << 30) const;
  std::vector<int> whole_list(const std::string& key, int least, int most) const;

  // For what is wrong in another way.
  [[noreturn]] void fail(const std::string& key, const std::string& expected) const;
  const std::string& path() const { return path_; }

 private:
  int whole_in(const nlohmann::json& value, const std::string& key, int least, int most) const;

  const nlohmann::json& json_;
  std::string path_, within_;
};

}  // namespace pendulum
