// The page that the server gives to a browser: one file, which asks for nothing from elsewhere.
#pragma once

namespace sluice::launcher {

extern const char* const kPage;

}  // namespace sluice::launcher
