// The smallest Wan transformer that has more than one of everything: for tests that take no file.
#pragma once
#include "model/config.h"

namespace pendulum {

inline WanConfig small_wan() {
  return {.layers = 2,
          .heads = 2,
          .head_dim = 16,
          .ffn_dim = 48,
          .freq_dim = 16,
          .in_channels = 3,
          .out_channels = 3,
          .text_dim = 10};
}

}  // namespace pendulum
