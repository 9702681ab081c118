// The moments of a pass through the network at which a unit of its parameters comes and goes.
#pragma once
#include <functional>

namespace pendulum {

// Unit 0 is what stands before and behind the blocks, unit i + 1 is block i.
enum class PassMoment { before_forward, after_forward, before_backward, after_backward };

// Told of a unit's moments by the network. after_backward: its parameters' gradients of this pass
// are complete.
using PassObserver = std::function<void(int unit, PassMoment moment)>;

}  // namespace pendulum
