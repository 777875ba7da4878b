// SPDX-License-Identifier: BSD-3-Clause
//
// URLs: taken apart, put together, and shown without their secrets.

#include "http/url.h"

#include "catch.h"

using upload::http::parse_url;
using upload::http::Url;

TEST_CASE("a URL is taken apart, and its port is always known", "[url]") {
  const auto url = parse_url("https://host.example/images/ticket-1?sig=abc");
  REQUIRE(url.ok());
  CHECK(url.value().scheme == "https");
  CHECK(url.value().host == "host.example");
  CHECK(url.value().port == "443");
  CHECK(url.value().path == "/images/ticket-1");
  CHECK(url.value().query == "sig=abc");
  const auto plain = parse_url("http://[::1]:54322/images/x");
  REQUIRE(plain.ok());
  CHECK(plain.value().host == "[::1]");
  CHECK(plain.value().origin() == "http://[::1]:54322");
}

TEST_CASE("a redacted URL shows neither ticket nor query", "[url]") {
  const Url url = parse_url("https://h:1/images/0f1e-ticket?sig=secret").value();
  CHECK(url.redacted() == "https://h:1/images/...?...");
  const Url longer = parse_url("https://h:1/images/ticket/extents").value();
  CHECK(longer.redacted() == "https://h:1/images/...");
  for (const char* path : {"/ticket", "/ticket/x", "/x/images/ticket/y", "//images/ticket"}) {
    const Url other = parse_url(std::string("https://h:1") + path).value();
    CHECK(other.redacted() == "https://h:1/...");
  }
}

TEST_CASE("a target keeps the query and adds its own parameter", "[url]") {
  const Url plain = parse_url("https://h/images/t").value();
  CHECK(plain.target() == "/images/t");
  CHECK(plain.target("", "flush=n") == "/images/t?flush=n");
  CHECK(plain.target("/extents", "context=zero") == "/images/t/extents?context=zero");
  const Url signed_url = parse_url("https://h/images/t?sig=1").value();
  CHECK(signed_url.target("", "flush=y") == "/images/t?sig=1&flush=y");
}

TEST_CASE("a URL that can't be an upload URL is refused without being shown", "[url]") {
  const char* bad[] = {"",
                       "host/images/t",
                       "ftp://host/images/t",
                       "file:///etc/passwd",
                       "https://",
                       "https:///images/t",
                       "https://:443/images/t",
                       "https://host",
                       "https://host/",
                       "https://host/images/hunter2/",
                       "https://host:0/images/t",
                       "https://host:99999/images/t",
                       "https://host:abc/images/t",
                       "https://user:hunter2hunter2@host/images/t",
                       "https://user@host/images/t",
                       "https://@host/images/t",
                       "https://host/images/t#part",
                       "https://host/ima ges/t",
                       "https://host/images/t\r\nX: y"};
  for (const char* text : bad) {
    const auto url = parse_url(text);
    INFO(text);
    REQUIRE_FALSE(url.ok());
    CHECK_FALSE(url.status().text().empty());
    CHECK(url.status().text().find("hunter2") == std::string::npos);
    CHECK(url.status().text().find('\n') == std::string::npos);
  }
}
