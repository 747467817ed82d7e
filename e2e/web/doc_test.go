// Package web_test uses the web app of `cocoon up --assist` as a person would:
// in headless Chromium, on a phone and on a desktop.
//
// It needs the Go tool and Chromium (tools/deps.sh installs Debian's;
// COCOON_CHROMIUM names another). COCOON_BIN names a program that was built
// already; COCOON_SHOTS a folder for screenshots; COCOON_REQUIRE turns skips
// into failures.
package web_test
