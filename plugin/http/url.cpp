// SPDX-License-Identifier: BSD-3-Clause
//
// URL parsing by libcurl's own parser (CURLOPT_CURLU's, curl_url_set(3)), so
// that what is checked here and what is connected to can't differ.

#include "http/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <memory>

namespace upload::http {

namespace {

struct CurlUrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlUrl = std::unique_ptr<CURLU, CurlUrlDeleter>;

// One part of the URL; empty when it has none.
std::string part(const CurlUrl& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, flags) != CURLUE_OK) return "";
  std::string result = text;
  curl_free(text);
  return result;
}

Status bad(const std::string& why) { return {Kind::kInvalid, why}; }

}  // namespace

std::string Url::origin() const { return scheme + "://" + host + ":" + port; }

std::string Url::redacted() const {
  const bool image = path.rfind("/images/", 0) == 0;
  return origin() + (image ? "/images/..." : "/...") + (query.empty() ? "" : "?...");
}

std::string Url::target(const std::string& suffix, const std::string& parameter) const {
  std::string result = path + suffix;
  if (!query.empty()) result += "?" + query;
  if (!parameter.empty()) result += (query.empty() ? "?" : "&") + parameter;
  return result;
}

Result<Url> parse_url(const std::string& text) {
  if (text.empty()) return bad("is empty");
  if (std::any_of(text.begin(), text.end(),
                  [](unsigned char c) { return c <= ' ' || c == 0x7f; }))
    return bad("contains a blank or a control character");
  const size_t colon = text.find("://");
  if (colon == text.npos) return bad("is not an absolute URL such as https://HOST/images/TICKET");
  std::string scheme = text.substr(0, colon);
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (scheme != "http" && scheme != "https")
    return bad("has the scheme '" + scheme + "'; only https and http can be used");
  if (colon + 3 == text.size() || text[colon + 3] == '/' || text[colon + 3] == ':' ||
      text[colon + 3] == '?')
    return bad("has no host");

  const CurlUrl url(curl_url());
  if (!url) return Status(Kind::kNoMemory, "out of memory");
  const CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0);
  if (code != CURLUE_OK) return bad(std::string("is malformed: ") + curl_url_strerror(code));
  if (!part(url, CURLUPART_USER).empty() || !part(url, CURLUPART_PASSWORD).empty() ||
      text.substr(colon + 3, text.find_first_of("/?#", colon + 3) - colon - 3).find('@') !=
          text.npos)
    return bad("has credentials in it; use user= and password= instead");
  if (!part(url, CURLUPART_FRAGMENT).empty() || text.find('#') != text.npos)
    return bad("has a fragment ('#') in it");

  Url result;
  result.scheme = scheme;
  result.host = part(url, CURLUPART_HOST);
  result.port = part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  result.path = part(url, CURLUPART_PATH);
  result.query = part(url, CURLUPART_QUERY);
  if (result.host.empty()) return bad("has no host");
  if (result.port == "0") return bad("has the port 0");
  if (result.path.empty() || result.path == "/")
    return bad("has no path; an upload URL ends in something like /images/TICKET");
  if (result.path.back() == '/') return bad("ends in a slash");
  return result;
}

}  // namespace upload::http
