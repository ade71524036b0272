// What LibTorch is told to do, for tests.

#pragma once

#include <string>

namespace observe {

// The operations of the current thread are counted from now on, also those that are parts of others.
void begin();
// Ends it: a line for each operation, its name and how often it was called.
std::string end();

} // namespace observe
