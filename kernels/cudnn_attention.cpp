// cuDNN's attention graphs by cudnn-frontend, kept by shape.
#include "kernels/cudnn_attention.h"

#include <cudnn_frontend.h>

#include <map>
#include <mutex>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pendulum::kernels {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// Names of the operands of a graph.
enum Uid : int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOut,
  kStatistic,
  kQueryLengths,
  kKeyLengths,
  kDout,
  kDquery,
  kDkey,
  kDvalue
};

// What an operand is for a plan: everything but its address.
struct Operand {
  Uid uid;
  const void* data;
  int64_t tokens, batch_stride, token_stride;  // strides in elements
};

template <class T>
Operand operand(Uid uid, const TokensView<T>& view, int64_t tokens) {
  return {uid, view.data, tokens, view.batch_stride, view.token_stride};
}

std::vector<Operand> operands_of(const CudnnForward& x, const AttentionSizes& s) {
  return {operand(kQuery, x.query, s.queries), operand(kKey, x.key, s.keys),
          operand(kValue, x.value, s.keys), operand(kOut, x.out, s.queries)};
}

std::vector<Operand> operands_of(const CudnnBackward& x, const AttentionSizes& s) {
  return {operand(kQuery, x.query, s.queries), operand(kKey, x.key, s.keys),
          operand(kValue, x.value, s.keys),    operand(kOut, x.out, s.queries),
          operand(kDout, x.dout, s.queries),   operand(kDquery, x.dquery, s.queries),
          operand(kDkey, x.dkey, s.keys),      operand(kDvalue, x.dvalue, s.keys)};
}

// Where cuDNN would answer with wrong numbers instead of an error.
std::string unsafe(const std::vector<Operand>& operands, const AttentionSizes& s) {
  if (s.queries % kCudnnTokens != 0 || s.keys % kCudnnTokens != 0)
    return "tokens are not padded to multiples of 128";
  if (s.head_dim % 8 != 0) return "heads are not of a multiple of 8 elements";
  for (const Operand& x : operands) {
    const bool aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.token_stride % 8 == 0 &&
                         x.batch_stride % 8 == 0;
    if (!aligned) return "rows do not begin at multiples of 16 bytes";
  }
  return {};
}

std::vector<int64_t> key_of(const std::vector<Operand>& operands, const AttentionSizes& s,
                            bool masked) {
  // The scale is a function of head_dim for every caller; its bits are part of the key all the
  // same.
  std::vector<int64_t> key{static_cast<int64_t>(operands.size()),
                           s.batch,
                           s.heads,
                           s.head_dim,
                           s.queries,
                           s.keys,
                           masked ? 1 : 0,
                           static_cast<int64_t>(s.scale * (int64_t{1} << 40))};
  for (const Operand& x : operands) {
    key.push_back(x.batch_stride);
    key.push_back(x.token_stride);
  }
  return key;
}

struct Plan {
  std::shared_ptr<Graph> graph;
  CudnnPlan answer;
};

class Builder {
 public:
  Builder(const AttentionSizes& sizes, const std::vector<Operand>& operands)
      : sizes_(sizes), operands_(operands), graph_(std::make_shared<Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  Plan forward(cudnnHandle_t handle, bool masked) {
    auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
    options.set_attn_scale(static_cast<float>(sizes_.scale));
    if (masked) {
      options.set_padding_mask(true)
          .set_seq_len_q(lengths(kQueryLengths))
          .set_seq_len_kv(lengths(kKeyLengths));
    }
    const auto [out, statistic] = graph_->sdpa(input(kQuery), input(kKey), input(kValue), options);
    give(out, kOut);
    statistic->set_output(true).set_uid(kStatistic).set_data_type(fe::DataType_t::FLOAT);
    statistic->set_dim(statistic_dims()).set_stride(statistic_strides());
    return built(handle);
  }

  Plan backward(cudnnHandle_t handle, bool masked) {
    auto options = fe::graph::SDPA_backward_attributes().set_name("attention_backward");
    options.set_attn_scale(static_cast<float>(sizes_.scale));
    if (masked) {
      options.set_padding_mask(true)
          .set_seq_len_q(lengths(kQueryLengths))
          .set_seq_len_kv(lengths(kKeyLengths));
    }
    const Tensor statistic = graph_->tensor(fe::graph::Tensor_attributes()
                                                .set_name("statistic")
                                                .set_uid(kStatistic)
                                                .set_data_type(fe::DataType_t::FLOAT)
                                                .set_dim(statistic_dims())
                                                .set_stride(statistic_strides()));
    const auto [dquery, dkey, dvalue] = graph_->sdpa_backward(
        input(kQuery), input(kKey), input(kValue), input(kOut), input(kDout), statistic, options);
    give(dquery, kDquery);
    give(dkey, kDkey);
    give(dvalue, kDvalue);
    return built(handle);
  }

 private:
  const Operand& find(Uid uid) const {
    for (const Operand& x : operands_) {
      if (x.uid == uid) return x;
    }
    throw std::logic_error("an operand that the pass does not have");
  }
  // Graphs name dimensions in the order (batch, heads, tokens, head_dim), whatever the memory's is.
  std::vector<int64_t> dims(const Operand& x) const {
    return {sizes_.batch, sizes_.heads, x.tokens, sizes_.head_dim};
  }
  std::vector<int64_t> strides(const Operand& x) const {
    return {x.batch_stride, sizes_.head_dim, x.token_stride, 1};
  }
  // Packed: cuDNN before 9.26 takes no other in the backward pass.
  std::vector<int64_t> statistic_dims() const {
    return {sizes_.batch, sizes_.heads, sizes_.queries, 1};
  }
  std::vector<int64_t> statistic_strides() const {
    return {sizes_.heads * sizes_.queries, sizes_.queries, 1, 1};
  }
  Tensor input(Uid uid) {
    const Operand& x = find(uid);
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_name(std::to_string(uid))
                              .set_uid(uid)
                              .set_dim(dims(x))
                              .set_stride(strides(x)));
  }
  void give(const Tensor& tensor, Uid uid) {
    const Operand& x = find(uid);
    tensor->set_output(true).set_uid(uid).set_dim(dims(x)).set_stride(strides(x));
  }
  Tensor lengths(Uid uid) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_name(std::to_string(uid))
                              .set_uid(uid)
                              .set_data_type(fe::DataType_t::INT32)
                              .set_dim({sizes_.batch, 1, 1, 1})
                              .set_stride({1, 1, 1, 1}));
  }
  Plan built(cudnnHandle_t handle) {
    auto result = graph_->build(handle, {fe::HeurMode_t::A});
    if (!result.is_good()) return {nullptr, {"cuDNN: " + result.get_message(), 0}};
    return {graph_, {"", graph_->get_workspace_size()}};
  }

  const AttentionSizes& sizes_;
  const std::vector<Operand>& operands_;
  std::shared_ptr<Graph> graph_;
};

void require(cudnnStatus_t status, const char* action) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cuDNN does not ") + action + ": " +
                             cudnnGetErrorString(status));
}

Plan build(const CudnnForward&, Builder& builder, cudnnHandle_t handle, bool masked) {
  return builder.forward(handle, masked);
}
Plan build(const CudnnBackward&, Builder& builder, cudnnHandle_t handle, bool masked) {
  return builder.backward(handle, masked);
}

}  // namespace

struct CudnnAttention::State {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;
  std::map<std::vector<int64_t>, Plan> plans;

  template <class Operands>
  const Plan& find(const Operands& x, const AttentionSizes& sizes) {
    const bool masked = x.query_lengths != nullptr;
    const std::vector<Operand> operands = operands_of(x, sizes);
    const auto key = key_of(operands, sizes, masked);
    const auto found = plans.find(key);
    if (found != plans.end()) return found->second;
    Builder builder(sizes, operands);
    return plans.emplace(key, build(x, builder, handle, masked)).first->second;
  }

  template <class Operands>
  CudnnPlan plan(const Operands& x, const AttentionSizes& sizes) {
    const std::string refusal = unsafe(operands_of(x, sizes), sizes);
    if (!refusal.empty()) return {refusal, 0};
    const std::scoped_lock lock(mutex);
    return find(x, sizes).answer;
  }

  template <class Operands>
  void run(const Operands& x, const AttentionSizes& sizes, void* workspace, Stream stream) {
    const std::scoped_lock lock(mutex);
    const Plan& plan = find(x, sizes);
    if (!plan.graph) throw std::logic_error(plan.answer.refusal);
    std::unordered_map<int64_t, void*> addresses{{kStatistic, const_cast<float*>(x.log_sum_exp)}};
    for (const Operand& operand : operands_of(x, sizes))
      addresses[operand.uid] = const_cast<void*>(operand.data);
    if (x.query_lengths != nullptr) {
      addresses[kQueryLengths] = const_cast<int32_t*>(x.query_lengths);
      addresses[kKeyLengths] = const_cast<int32_t*>(x.key_lengths);
    }
    require(cudnnSetStream(handle, reinterpret_cast<cudaStream_t>(stream)), "take a stream");
    auto result = plan.graph->execute(handle, addresses, workspace);
    if (!result.is_good()) throw std::runtime_error("cuDNN's attention: " + result.get_message());
  }
};

CudnnAttention::CudnnAttention() : state_(std::make_unique<State>()) {
  require(cudnnCreate(&state_->handle), "start");
}
CudnnAttention::~CudnnAttention() { cudnnDestroy(state_->handle); }

CudnnPlan CudnnAttention::plan(const CudnnForward& operands, const AttentionSizes& sizes) {
  return state_->plan(operands, sizes);
}
CudnnPlan CudnnAttention::plan(const CudnnBackward& operands, const AttentionSizes& sizes) {
  return state_->plan(operands, sizes);
}
void CudnnAttention::run(const CudnnForward& operands, const AttentionSizes& sizes, void* workspace,
                         Stream stream) {
  state_->run(operands, sizes, workspace, stream);
}
void CudnnAttention::run(const CudnnBackward& operands, const AttentionSizes& sizes,
                         void* workspace, Stream stream) {
  state_->run(operands, sizes, workspace, stream);
}

}  // namespace pendulum::kernels
