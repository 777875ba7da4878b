// SPDX-License-Identifier: BSD-3-Clause
//
// Every key: what is taken, and what the one line says that refuses.

#include "process/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/redact.h"
#include "catch.h"

using upload::Config;
using upload::ConfigParser;
using upload::Result;
using upload::Status;
using namespace std::chrono_literals;

namespace {

Result<std::string> read_secret(const std::string& value) {
  if (value.size() > 1 && value[0] == '+') {
    std::ifstream file(value.substr(1));
    std::string line;
    std::getline(file, line);
    return line;
  }
  return value;
}

const char kUrl[] = "https://host/images/ticket-0123456789";

struct Fixture {
  ConfigParser parser{read_secret};

  Fixture() = default;
  ~Fixture() { upload::forget_secrets(); }

  Fixture& set(const std::string& key, const std::string& value) {
    const Status status = parser.set(key, value);
    INFO(status.text());
    REQUIRE(status.ok());
    return *this;
  }
  std::string error(const std::string& key, const std::string& value) {
    const Status status = parser.set(key, value);
    REQUIRE_FALSE(status.ok());
    CHECK(status.text().find('\n') == std::string::npos);
    return status.text();
  }
  Config complete() {
    const Result<Config> config = parser.complete();
    INFO(config.status().text());
    REQUIRE(config.ok());
    return config.value();
  }
  std::string incomplete() {
    const Result<Config> config = parser.complete();
    REQUIRE_FALSE(config.ok());
    return config.status().text();
  }
};

std::string a_file(const char* text = "x") {
  char path[] = "/tmp/upload-config-XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  REQUIRE(write(fd, text, strlen(text)) == static_cast<ssize_t>(strlen(text)));
  close(fd);
  return path;
}

}  // namespace

TEST_CASE("direct= is asked of the server, true or false; the last one counts", "[config]") {
  Fixture f;
  f.set("url", kUrl).set("direct", "true");
  CHECK(f.complete().direct == true);
  CHECK(f.set("direct", "off").complete().direct == false);
  CHECK_FALSE(f.set("direct", "auto").complete().direct);
}

TEST_CASE("defaults are those of the manual", "[config]") {
  const Config config = Fixture().set("url", kUrl).complete();
  CHECK(config.target == "auto");
  CHECK_FALSE(config.size);
  CHECK_FALSE(config.auto_socket);
  CHECK_FALSE(config.direct);
  CHECK(config.connections == 4);
  CHECK(config.idle_timeout == 30s);
  CHECK(config.origin.connect_timeout == 10s);
  CHECK(config.origin.timeout == 60s);
  CHECK_FALSE(config.origin.insecure);
}

TEST_CASE("the Python plugin's parameters are accepted, and the last one counts", "[config]") {
  const std::string cafile = a_file();
  const Config config = Fixture()
                            .set("size", "1")
                            .set("url", "https://other/images/x")
                            .set("cafile", cafile)
                            .set("insecure", "true")
                            .set("is_ovirt_host", "true")
                            .set("size", "1073741824")
                            .set("url", kUrl)
                            .set("insecure", "0")
                            .complete();
  CHECK(config.size == 1073741824U);
  CHECK(config.origin.url.host == "host");
  CHECK(config.origin.ca_pem == "x");
  CHECK_FALSE(config.origin.insecure);
  CHECK(config.auto_socket);
  unlink(cafile.c_str());
}

TEST_CASE("every bad value gets one line that names key and value", "[config]") {
  const std::pair<const char*, const char*> rows[] = {
      {"size", ""},
      {"size", "0"},
      {"size", "-1"},
      {"size", "lots"},
      {"size", "9999999999999999999999"},
      {"size", "8E"},
      {"target", ""},
      {"target", "webdav2"},
      {"cafile", ""},
      {"cafile", "/nonexistent/ca.pem"},
      {"cafile", "/tmp"},
      {"cert", "/nonexistent/cert.pem"},
      {"key", "/nonexistent/key.pem"},
      {"insecure", ""},
      {"insecure", "maybe"},
      {"is_ovirt_host", "2"},
      {"unix-socket", ""},
      {"unix-socket", "relative/path"},
      {"unix-socket", "@"},
      {"direct", ""},
      {"direct", "maybe"},
      {"direct", "AUTO"},
      {"connections", ""},
      {"connections", "0"},
      {"connections", "-4"},
      {"connections", "65"},
      {"connections", "4.5"},
      {"connections", "99999999999999999999"},
      {"max-request", "0"},
      {"max-request", "1"},
      {"max-request", "2G"},
      {"connect-timeout", ""},
      {"connect-timeout", "0"},
      {"connect-timeout", "-1"},
      {"timeout", "nan"},
      {"timeout", "inf"},
      {"timeout", "1e3"},
      {"timeout", "10s"},
      {"idle-timeout", "86401"},
      {"idle-timeout", "0.0001"},
      {"replay", ""},
      {"replay", "1023K"},
      {"replay", "2T"},
      {"metrics", ""},
      {"metrics", "relative.prom"},
      {"metrics", "/tmp/"},
      {"spool", ""},
      {"spool", "relative/dir"},
      {"spool", "/nonexistent/dir"},
      {"spool", "/etc/passwd"},
      {"spool-size", "0"},
      {"spool-size", "10X"},
      {"spool-flush", ""},
      {"spool-flush", "both"},
      {"spool-leftovers", ""},
      {"spool-leftovers", "keep"},
      {"retry-time", "0"},
      {"denied-wait", "soon"},
      {"user", ""},
      {"user", "a:b"},
  };
  for (const auto& [key, value] : rows) {
    INFO(key << "=" << value);
    const std::string text = Fixture().error(key, value);
    CHECK(text.find(std::string(key) + "=" + value + ":") == 0);
  }
  CHECK(Fixture().error("unix-socket", "/" + std::string(200, 'x')).find("107") !=
        std::string::npos);
}

TEST_CASE("a bad secret gets one line that names the key and hides the value", "[config]") {
  const std::pair<const char*, const char*> rows[] = {{"url", "ftp://hush-hush/x"},
                                                      {"url", "https://u:hush-hush@host/x"},
                                                      {"password", "hush\nhush"},
                                                      {"token", "hush hush"},
                                                      {"header", "hush-hush"},
                                                      {"header", "hush: "},
                                                      {"header", "Host: hush"},
                                                      {"header", "Content-Length: 5"},
                                                      {"header", ": hush"},
                                                      {"header", "A B: hush"},
                                                      {"header", "A: hush\r\nB: c"},
                                                      {"proxy", "hush hush"},
                                                      {"password", "+hush"},
                                                      {"password", "-hush"},
                                                      {"token", "-1"},
                                                      {"token", "-99999"}};
  for (const auto& [key, value] : rows) {
    INFO(key << "=" << value);
    const std::string text = Fixture().error(key, value);
    CHECK(text.find(std::string(key) + "=...:") == 0);
    CHECK(text.find("hush") == std::string::npos);
  }
  CHECK(Fixture().error("password", "+/nonexistent/p").find("password=+/nonexistent/p:") == 0);
}

TEST_CASE("an unknown key is named, its value is not", "[config]") {
  const std::string text = Fixture().error("pasword", "hush");
  CHECK(text.find("'pasword'") != std::string::npos);
  CHECK(text.find("hush") == std::string::npos);
}

TEST_CASE("secrets come from files too, and are blanked out afterwards", "[config]") {
  const std::string file = a_file("file-secret-1\nmore\n");
  Fixture f;
  const Config config = f.set("url", kUrl)
                            .set("user", "admin")
                            .set("password", "+" + file)
                            .set("header", "X-Auth: header-secret-2")
                            .complete();
  CHECK(config.access.password == "file-secret-1");
  CHECK(upload::redacted("file-secret-1 header-secret-2 ticket-0123456789") == "... ... ...");
  // admin:file-secret-1
  CHECK(upload::redacted("Basic YWRtaW46ZmlsZS1zZWNyZXQtMQ==") == "Basic ...");
  unlink(file.c_str());
}

TEST_CASE("secrets are known in each form in which they are sent, and in parts", "[config]") {
  const struct {
    const char* key;
    const char* value;
    const char* said;
    const char* shown;
  } examples[] = {
      {"url", "https://h/images/ticket-01?auth=abc+def12345", "abc def12345", "..."},
      {"url", "https://h/images/ticket-01?auth=abc+def12345", "dGlja2V0LTAx is no ticket",
       "... is no ticket"},
      {"url", "https://h/SECRET12345/disk", "no SECRET12345", "no ..."},
      {"header", "Cookie: session=SECRETVALUE1234; other=1", "session SECRETVALUE1234 expired",
       "session ... expired"},
      {"header", "X-Auth: SECRETVALUE1234 realm", "SECRETVALUE1234", "..."},
      {"header", "Authorization: Basic am9lOmh1bnRlcjJodW50ZXIy", "hunter2hunter2", "..."},
      {"token", "tokentoken12", "dG9rZW50b2tlbjEy", "..."},
      {"proxy", "http://us%40er:p%40ssw%2Ford@proxy", "Basic dXNAZXI6cEBzc3cvb3Jk", "Basic ..."},
      {"proxy", "http://userpasswordword@proxy", "Basic dXNlcnBhc3N3b3Jkd29yZDo=", "Basic ..."},
  };
  for (const auto& example : examples) {
    INFO(example.key << "=" << example.value);
    Fixture f;
    f.set(example.key, example.value);
    CHECK(upload::redacted(example.said) == example.shown);
  }
  Fixture f;
  (void)f.set("url", kUrl).set("user", "joe").set("password", "hunter2hunter").complete();
  CHECK(upload::redacted("am9lOmh1bnRlcjJodW50ZXI") == "...");
}

TEST_CASE("no parameter takes the end of a line to the server", "[config]") {
  const std::pair<const char*, const char*> before[] = {{"url", "https://host/images/ticket"},
                                                        {"user", "admin"},
                                                        {"password", "secret"},
                                                        {"token", "token"},
                                                        {"header", "X-Name: value"},
                                                        {"header", "X-Name"},
                                                        {"proxy", "http://proxy:3128"}};
  for (const auto& [key, value] : before)
    for (const std::string end :
         {"\r\nX-Forged: 1", "\nX-Forged: 1", "\rX-Forged: 1", "\r\n", "\n"}) {
      INFO(key);
      (void)Fixture().error(key, value + end);
    }
}

TEST_CASE("contradictions are named", "[config]") {
  const std::string file = a_file();
  CHECK(Fixture().incomplete().find("url= is required") == 0);
  const auto with_url = [] {
    Fixture f;
    f.set("url", kUrl);
    return f;
  };
  CHECK(with_url().set("replay", "2M").incomplete() ==
        "replay=2097152 is too small for one request, max-request=4194304");
  CHECK(with_url().set("spool", "/tmp").incomplete() == "spool=/tmp needs replay=SIZE");
  CHECK(with_url().set("write-back", "true").incomplete() == "write-back=true needs replay=SIZE");
  CHECK(with_url().set("spool-size", "1G").incomplete() ==
        "spool-size=1073741824 needs spool=DIR");
  CHECK(with_url().set("spool-flush", "local").incomplete() ==
        "spool-flush=local needs spool=DIR");
  CHECK(with_url().set("spool-flush", "remote").incomplete() ==
        "spool-flush=remote needs spool=DIR");
  CHECK(with_url().set("spool-leftovers", "fail").incomplete() ==
        "spool-leftovers=fail needs spool=DIR");
  CHECK(with_url()
            .set("spool", "/tmp")
            .set("replay", "64M")
            .set("spool-size", "63M")
            .incomplete() ==
        "spool-size=66060288 is too small for what is in memory, replay=67108864");
  CHECK(with_url().set("password", "x").incomplete() == "password= needs user=");
  CHECK(with_url().set("user", "me").incomplete() == "user=me needs password=");
  CHECK(with_url()
            .set("user", "me")
            .set("password", "x")
            .set("token", "y")
            .incomplete()
            .find("exclude each other") != std::string::npos);
  CHECK(with_url()
            .set("token", "y")
            .set("header", "authorization: Basic abc")
            .incomplete()
            .find("exclude each other") != std::string::npos);
  CHECK(with_url().set("cert", file).incomplete() == "cert= needs key=");
  CHECK(with_url().set("key", file).incomplete() == "key= needs cert=");
  CHECK(with_url().set("is_ovirt_host", "true").set("unix-socket", "none").incomplete() ==
        "is_ovirt_host=true and unix-socket=none exclude each other");
  Fixture plain;
  plain.set("url", "http://host/images/t").set("cert", file).set("key", file);
  CHECK(plain.incomplete().find("https:") != std::string::npos);
  unlink(file.c_str());
}

TEST_CASE("ways to be allowed that contradict each other, or lack something, are named",
          "[config]") {
  using Parameters = std::vector<std::pair<const char*, const char*>>;
  const auto wrong = [](const Parameters& parameters) {
    Fixture f;
    f.set("url", kUrl);
    for (const auto& [key, value] : parameters) f.set(key, value);
    return f.incomplete();
  };
  const std::pair<const char*, const char*> endpoint = {"token-url", "https://login/token"};
  CHECK(wrong({endpoint}) ==
        "token-url= needs client-id= and client-secret=, or user= and password=");
  CHECK(wrong({endpoint, {"client-id", "me"}}) == "client-id=me needs client-secret=, or user=");
  CHECK(wrong({endpoint, {"client-secret", "s"}}) == "client-secret= needs client-id=");
  CHECK(wrong({endpoint, {"user", "me"}}) == "user=me needs password=");
  CHECK(wrong({{"client-id", "me"}}) == "client-id=me needs token-url=");
  CHECK(wrong({{"client-secret", "s"}}) == "client-secret= needs token-url=");
  CHECK(wrong({{"scope", "all"}}) == "scope=all needs token-url=");
  CHECK(wrong({{"reuse-session", "false"}, {"token", "t"}}) ==
        "reuse-session=false needs token-url= or token-script=");
  const char* const exclude = " exclude each other";
  CHECK(wrong({endpoint, {"client-id", "me"}, {"client-secret", "s"}, {"token", "t"}}) ==
        std::string("token-url= and token=") + exclude);
  CHECK(wrong({endpoint, {"user", "me"}, {"password", "p"}, {"token-script", "x"}}) ==
        std::string("token-url= and token-script=") + exclude);
  CHECK(wrong({{"user", "me"}, {"password", "p"}, {"token-script", "x"}}) ==
        std::string("user=me and token-script=") + exclude);
  CHECK(wrong({{"token-script", "x"}, {"header", "Authorization: Basic abc"}}) ==
        std::string("token-script= and header=Authorization") + exclude);
  CHECK(Fixture().error("token-url", "http://login/token") ==
        "token-url=http://login/token: must be a URL with a host and a path that begins with "
        "https:");
  CHECK(Fixture().error("token-url", "https://login").find("must be a URL") != std::string::npos);
  CHECK(Fixture().error("token-script", " ").find("must be a shell command") !=
        std::string::npos);
  CHECK(Fixture().error("validate-session", "maybe") ==
        "validate-session=maybe: must be true or false");
  upload::forget_secrets();
}

TEST_CASE("a login is a client's or a user's", "[config]") {
  upload::forget_secrets();
  Fixture client;
  const Config::Access by_client = client.set("url", kUrl)
                                       .set("token-url", "https://login:8443/token")
                                       .set("client-id", "me")
                                       .set("client-secret", "client-secret-1")
                                       .set("scope", "read write")
                                       .set("reuse-session", "false")
                                       .complete()
                                       .access;
  CHECK(by_client.has_login());
  CHECK(by_client.token_url->origin() == "https://login:8443");
  CHECK(by_client.scope == "read write");
  CHECK_FALSE(by_client.reuse_session);
  CHECK(upload::redacted("client-secret-1") == "...");
  CHECK(upload::redacted(upload::base64("me:client-secret-1")) == "...");
  Fixture odd;
  (void)odd.set("url", kUrl)
      .set("token-url", "https://login/token")
      .set("client-id", "me@here")
      .set("client-secret", "se/cr+et 0123")
      .complete();
  CHECK(upload::redacted(upload::base64("me%40here:se%2Fcr%2Bet%200123")) == "...");
  Fixture user;
  CHECK(user.set("url", kUrl)
            .set("token-url", "https://login/token")
            .set("user", "joe")
            .set("password", "p")
            .complete()
            .access.has_login());
  Fixture basic;
  CHECK_FALSE(basic.set("url", kUrl)
                  .set("user", "joe")
                  .set("password", "p")
                  .complete()
                  .access.has_login());
  upload::forget_secrets();
}

TEST_CASE("help has each key at the start of a line", "[config]") {
  const std::string help = ConfigParser::help();
  for (const char* key :
       {"url=",           "size=",         "target=",        "cafile=",
        "cert=",          "key=",          "insecure=",      "unix-socket=",
        "is_ovirt_host=", "connections=",  "max-request=",   "connect-timeout=",
        "timeout=",       "idle-timeout=", "user=",          "password=",
        "token=",         "token-url=",    "client-id=",     "client-secret=",
        "scope=",         "token-script=", "reuse-session=", "validate-session=",
        "header=",        "proxy="}) {
    INFO(key);
    CHECK((help.find(key) == 0 || help.find(std::string("\n") + key) != std::string::npos));
  }
}

// --- Exports --------------------------------------------------------------

TEST_CASE("url= and size= after export= are its own", "[config]") {
  Fixture f;
  f.set("export", "sda").set("url", "https://host/images/one-0123456789").set("size", "1G");
  f.set("export", "sdb").set("url", "https://other/images/two-0123456789").set("start", "any");
  const Config config = f.complete();
  REQUIRE(config.exports.size() == 2);
  CHECK(config.exports[0].name == "sda");
  CHECK(config.exports[0].url.path == "/images/one-0123456789");
  CHECK(config.exports[0].size == uint64_t{1} << 30);
  CHECK(config.exports[1].url.host == "other");
  CHECK_FALSE(config.exports[1].size);
  CHECK(config.start_any);
}

TEST_CASE("exports that contradict each other are refused", "[config]") {
  SECTION("a URL before the first") {
    Fixture f;
    f.set("url", kUrl).set("export", "a");
    CHECK(f.incomplete() == "a url= before export=a belongs to no export");
  }
  SECTION("a size before the first") {
    Fixture f;
    f.set("size", "1M").set("export", "a").set("url", kUrl);
    CHECK(f.incomplete() == "a size= before export=a belongs to no export");
  }
  SECTION("no URL") {
    Fixture f;
    f.set("export", "a").set("export", "b").set("url", kUrl);
    CHECK(f.incomplete() == "export=a url= is required: where to upload to");
  }
  SECTION("one disk twice") {
    Fixture f;
    f.set("export", "a").set("url", kUrl).set("export", "b").set("url", kUrl);
    CHECK(f.incomplete() == "export=a and export=b have the same url=");
  }
  SECTION("too little memory") {
    Fixture f;
    f.set("export", "a").set("url", kUrl).set("export", "b").set("url", std::string(kUrl) + "2");
    f.set("replay", "6M");
    CHECK(
        f.incomplete() ==
        "replay=6291456 is too small for 2 exports with max-request=4194304, which need 8388608");
    f.set("replay", "8M");
    CHECK(f.complete().replay == 8U << 20);
  }
  SECTION("one name twice") {
    Fixture f;
    f.set("export", "a");
    CHECK(f.error("export", "a") == "export=a: there is an export of that name already");
    CHECK(f.error("export", "").find("must be a name") != std::string::npos);
    CHECK(f.error("start", "some") == "start=some: must be all or any");
    CHECK(f.error("exports", "/dev/null").find("can not be given beside export=a") !=
          std::string::npos);
  }
}

TEST_CASE("a claim is a directory's or a cluster's", "[config]") {
  Fixture f;
  f.set("url", kUrl).set("claim", "file:/tmp").set("claim-wait", "0").set("claim-steal", "true");
  Config config = f.complete();
  CHECK(config.claim.directory == "/tmp");
  CHECK(config.claim.wait == 0s);
  CHECK(config.claim.steal);
  f.set("claim", "etcd:https://a:2379,http://b:2380/").set("claim-lease", "10");
  config = f.complete();
  CHECK(config.claim.directory.empty());
  REQUIRE(config.claim.members.size() == 2);
  CHECK(config.claim.members[0].origin() == "https://a:2379");
  CHECK(config.claim.members[1].origin() == "http://b:2380");
  CHECK(config.claim.lease == 10s);
  f.set("claim", "lease");
  CHECK(f.complete().claim.native);
  CHECK(f.complete().claim.wanted());
  for (const char* bad : {"", "file", "file:", "file:relative", "file:/nowhere/at/all",
                          "file:/dev/null", "etcd:", "etcd:host", "etcd:https://a,",
                          "etcd:https://a/path", "etcd:https://a?q", "other:/tmp"})
    CHECK(f.error("claim", bad).starts_with(std::string("claim=") + bad + ": "));
  for (const char* bad : {"9", "3601", "10.5", "", "-1"}) (void)f.error("claim-lease", bad);
  (void)f.error("claim-wait", "-1");
  (void)f.error("claim-name", "");
  (void)f.error("claim-name", "a\nb");
}

TEST_CASE("what is said of a claim that there is not is refused", "[config]") {
  Fixture f;
  f.set("url", kUrl).set("claim-steal", "true");
  CHECK(f.incomplete() == "claim-steal=true needs claim=");
  f.set("claim", "file:/tmp").set("claim-lease", "20");
  CHECK(f.incomplete() == "claim-lease=20 needs claim=etcd:URL or lease");
}

TEST_CASE("a claim's name is its export's", "[config]") {
  Fixture f;
  f.set("claim", "file:/tmp").set("export", "a").set("url", "https://h/images/ticket-a?sig=1");
  f.set("export", "b").set("url", "https://h/images/ticket-a?sig=2");
  CHECK(f.incomplete() == "export=a and export=b have the same claim");
  f.set("claim-name", "disk-b");
  const Config config = f.complete();
  CHECK(config.exports[0].claim_name.empty());
  CHECK(config.exports[1].claim_name == "disk-b");
}

TEST_CASE("a claim's name before the first export is nobody's", "[config]") {
  Fixture f;
  f.set("claim", "file:/tmp").set("claim-name", "disk").set("export", "a").set("url", kUrl);
  CHECK(f.incomplete() == "a claim-name= before export=a belongs to no export");
}
