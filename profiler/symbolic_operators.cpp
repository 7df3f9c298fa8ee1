#include "symbolic_operators.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace tidemark {

namespace {

using Values = std::vector<c10::IValue>;

bool is_double(const Values& values) {
  return std::any_of(values.begin(), values.end(),
                     [](const c10::IValue& value) { return value.isDouble(); });
}

std::int64_t as_int(const c10::IValue& value) {
  return value.isBool() ? static_cast<std::int64_t>(value.toBool()) : value.toInt();
}

double as_double(const c10::IValue& value) {
  return value.isDouble() ? value.toDouble() : static_cast<double>(as_int(value));
}

bool as_bool(const c10::IValue& value) {
  return value.isBool() ? value.toBool() : as_double(value) != 0;
}

// Applies to ints or to doubles, as Python decides by its operands.
template <typename Function>
c10::IValue arithmetic(const Values& values, Function function) {
  if (is_double(values)) return function(as_double(values.at(0)), as_double(values.at(1)));
  return function(as_int(values.at(0)), as_int(values.at(1)));
}

c10::IValue add(const Values& v) {
  return arithmetic(v, [](auto a, auto b) { return c10::IValue(a + b); });
}
c10::IValue subtract(const Values& v) {
  return arithmetic(v, [](auto a, auto b) { return c10::IValue(a - b); });
}
c10::IValue multiply(const Values& v) {
  return arithmetic(v, [](auto a, auto b) { return c10::IValue(a * b); });
}

// Python rounds towards minus infinity, C++ towards zero.
c10::IValue floor_divide(const Values& v) {
  if (is_double(v)) return std::floor(as_double(v.at(0)) / as_double(v.at(1)));
  const std::int64_t a = as_int(v.at(0));
  const std::int64_t b = as_int(v.at(1));
  return a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);
}

c10::IValue modulo(const Values& v) {
  if (is_double(v)) {
    const double b = as_double(v.at(1));
    const double remainder = std::fmod(as_double(v.at(0)), b);
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
  }
  const std::int64_t b = as_int(v.at(1));
  const std::int64_t remainder = as_int(v.at(0)) % b;
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

c10::IValue power(const Values& v) {
  const double result = std::pow(as_double(v.at(0)), as_double(v.at(1)));
  if (is_double(v) || as_int(v.at(1)) < 0) return result;
  std::int64_t product = 1;
  for (std::int64_t i = 0; i < as_int(v.at(1)); ++i) product *= as_int(v.at(0));
  return product;
}

c10::IValue true_divide(const Values& v) { return as_double(v.at(0)) / as_double(v.at(1)); }
c10::IValue equal(const Values& v) { return as_double(v.at(0)) == as_double(v.at(1)); }
c10::IValue not_equal(const Values& v) { return as_double(v.at(0)) != as_double(v.at(1)); }
c10::IValue less(const Values& v) { return as_double(v.at(0)) < as_double(v.at(1)); }
c10::IValue less_equal(const Values& v) { return as_double(v.at(0)) <= as_double(v.at(1)); }
c10::IValue greater(const Values& v) { return as_double(v.at(0)) > as_double(v.at(1)); }
c10::IValue greater_equal(const Values& v) { return as_double(v.at(0)) >= as_double(v.at(1)); }

c10::IValue bitwise_and(const Values& v) {
  if (v.at(0).isBool() && v.at(1).isBool()) return v[0].toBool() && v[1].toBool();
  return as_int(v.at(0)) & as_int(v.at(1));
}
c10::IValue bitwise_or(const Values& v) {
  if (v.at(0).isBool() && v.at(1).isBool()) return v[0].toBool() || v[1].toBool();
  return as_int(v.at(0)) | as_int(v.at(1));
}
c10::IValue negate(const Values& v) {
  if (is_double(v)) return -as_double(v.at(0));
  return -as_int(v.at(0));
}

c10::IValue to_int(const Values& v) {
  return static_cast<std::int64_t>(std::trunc(as_double(v.at(0))));
}
c10::IValue to_float(const Values& v) { return as_double(v.at(0)); }
c10::IValue largest(const Values& v) {
  return arithmetic(v, [](auto a, auto b) { return c10::IValue(std::max(a, b)); });
}
c10::IValue smallest(const Values& v) {
  return arithmetic(v, [](auto a, auto b) { return c10::IValue(std::min(a, b)); });
}
c10::IValue choose(const Values& v) { return as_bool(v.at(0)) ? v.at(1) : v.at(2); }
c10::IValue logical_not(const Values& v) { return !as_bool(v.at(0)); }
c10::IValue square_root(const Values& v) { return std::sqrt(as_double(v.at(0))); }

}  // namespace

SymbolicOperator find_symbolic_operator(const std::string& target) {
  static const std::map<std::string, SymbolicOperator> operators = {
      {"_operator.add", add},
      {"_operator.sub", subtract},
      {"_operator.mul", multiply},
      {"_operator.floordiv", floor_divide},
      {"_operator.mod", modulo},
      {"_operator.pow", power},
      {"_operator.truediv", true_divide},
      {"_operator.eq", equal},
      {"_operator.ne", not_equal},
      {"_operator.lt", less},
      {"_operator.le", less_equal},
      {"_operator.gt", greater},
      {"_operator.ge", greater_equal},
      {"_operator.and_", bitwise_and},
      {"_operator.or_", bitwise_or},
      {"_operator.neg", negate},
      {"math.trunc", to_int},
      {"torch.sym_int", to_int},
      {"torch.sym_float", to_float},
      {"torch.sym_max", largest},
      {"torch.sym_min", smallest},
      {"torch.sym_ite", choose},
      {"torch.sym_not", logical_not},
      {"torch._sym_sqrt", square_root},
  };
  const auto found = operators.find(target);
  return found == operators.end() ? nullptr : found->second;
}

}  // namespace tidemark
