// Attention over several ranks, really under mpirun.
#include "attention_cases.h"
#include "dist_support.h"

namespace pendulum {
namespace {

TEST(DistributedAttentionOverMpi, EqualsOneRankInEveryLayout) {
  check_all_layouts(test_world(), {});
  check_all_layouts(test_world(), {.tokens = 5});
  check_all_layouts(test_world(), {.tokens = 300, .type = at::kFloat});
}

TEST(DistributedAttentionOverMpi, SendsWhatTheFormulasSay) {
  check_traffic(test_world(), 1, {});
  check_traffic(test_world(), 2, {});
}

}  // namespace
}  // namespace pendulum
