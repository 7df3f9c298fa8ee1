// The findings of a lint as text, JSON, and SARIF 2.1.0 for code scanning.
#pragma once

#include <iosfwd>
#include <vector>

#include "tidemark/lint.hpp"

namespace tidemark {

// "ds_config.json:3:5: warning: ..."
void print_lint_text(const Config& config, const std::vector<LintFinding>& findings,
                     std::ostream& out);
void print_lint_json(const Config& config, const std::vector<LintFinding>& findings,
                     std::ostream& out);
void print_lint_sarif(const Config& config, const std::vector<LintFinding>& findings,
                      std::ostream& out);

}  // namespace tidemark
