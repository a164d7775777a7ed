#include "lookm/host/rpc_endpoint.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/at_work.h"

#if defined(_WIN32)

namespace lookm {

std::vector<rpc_lease> lease_rpc_servers(const std::string & servers) {
    throw bad_argument("rpc_servers", "\"" + servers + "\" on Windows; expected none there");
}

} // namespace lookm

#else

#include "ggml-rpc.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr int timeout_ms = 5000;

#if defined(MSG_NOSIGNAL)
constexpr int no_signal = MSG_NOSIGNAL;
#else
constexpr int no_signal = 0; // macOS has a socket option instead
#endif

[[noreturn]] void refuse(const std::string & address, const std::string & why) {
    throw bad_argument("rpc_servers", "\"" + address + "\" " + why);
}

struct endpoint {
    std::string address, host, port;
};

endpoint parse(const std::string & address) {
    const size_t colon = address.find(':'); // as ggml splits it; no IPv6
    const std::string host = address.substr(0, colon);
    const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
    int number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    const bool whole = error == std::errc() && end == port.data() + port.size();
    if (host.empty() || host.find_first_of(" \t") != std::string::npos || !whole || number < 1 ||
        number > 65535) {
        refuse(address,
               "is not an address; expected host:port,host:port,... with ports from 1 to 65535");
    }
    return {address, host, port};
}

std::vector<endpoint> parse_list(const std::string & servers) {
    std::vector<endpoint> out;
    std::istringstream in(servers);
    for (std::string address; std::getline(in, address, ',');) {
        if (std::any_of(out.begin(), out.end(),
                        [&](const endpoint & e) { return e.address == address; })) {
            refuse(address, "is named twice; expected different servers");
        }
        out.push_back(parse(address));
    }
    if (out.empty() || servers.back() == ',') {
        refuse(servers, "is not a list of addresses; expected host:port,host:port,...");
    }
    if (out.size() > GGML_RPC_MAX_SERVERS) {
        refuse(servers, "names " + std::to_string(out.size()) + " servers; expected at most " +
                            std::to_string(GGML_RPC_MAX_SERVERS));
    }
    return out;
}

class tcp_socket {
  public:
    explicit tcp_socket(int fd) : fd_(fd) {}
    ~tcp_socket() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    tcp_socket(tcp_socket && other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    tcp_socket & operator=(tcp_socket &&) = delete;

    int fd() const { return fd_; }

    bool send_all(const void * data, size_t size) const {
        return send(fd_, data, size, no_signal) == static_cast<ssize_t>(size);
    }
    bool receive_all(void * data, size_t size) const {
        return recv(fd_, data, size, MSG_WAITALL) == static_cast<ssize_t>(size);
    }

  private:
    int fd_;
};

void set_blocking(int fd, bool blocking) {
    const int flags = fcntl(fd, F_GETFL, 0);
    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

// Returns 0, or the errno of what failed.
int connect_within(int fd, const addrinfo & to) {
    set_blocking(fd, false);
    if (connect(fd, to.ai_addr, to.ai_addrlen) != 0) {
        if (errno != EINPROGRESS) {
            return errno;
        }
        pollfd wait = {fd, POLLOUT, 0};
        if (poll(&wait, 1, timeout_ms) <= 0) {
            return ETIMEDOUT;
        }
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            return error;
        }
    }
    set_blocking(fd, true);
    return 0;
}

tcp_socket connect_to(const endpoint & e) {
    addrinfo hints = {};
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo * found = nullptr;
    const int failed = getaddrinfo(e.host.c_str(), e.port.c_str(), &hints, &found);
    if (failed != 0) {
        refuse(e.address, std::string("has an unknown host: ") + gai_strerror(failed));
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> to(found, freeaddrinfo);
    tcp_socket s(socket(to->ai_family, to->ai_socktype, to->ai_protocol));
    const int error = s.fd() < 0 ? errno : connect_within(s.fd(), *to);
    if (error != 0) {
        refuse(e.address, std::string("cannot be reached: ") + std::strerror(error) +
                              "; expected a running ggml-rpc-server");
    }
#if defined(SO_NOSIGPIPE)
    const int on = 1;
    setsockopt(s.fd(), SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
#endif
    // Until the server has answered, closing resets the connection. A busy server accepts it later
    // and would die of SIGPIPE if the connection looked open and it sent something.
    const linger reset = {1, 0};
    setsockopt(s.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    const timeval limit = {timeout_ms / 1000, 0};
    setsockopt(s.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(s.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return s;
}

// The first exchange of ggml-rpc. Sent: a command byte, the size of the rest, and the transports
// besides TCP (none here). Received: a size, the protocol's version, and the server's transports.
constexpr uint8_t command_hello = 14;
using transports = std::array<uint8_t, 24>;
struct hello_answer {
    uint8_t major, minor, patch, padding;
    transports caps;
};

void greet(const endpoint & e, const tcp_socket & s) {
    std::array<uint8_t, 1 + sizeof(uint64_t) + sizeof(transports)> request = {command_hello};
    const uint64_t size = sizeof(transports);
    std::memcpy(request.data() + 1, &size, sizeof(size));
    uint64_t answer_size = 0;
    hello_answer answer = {};
    if (!s.send_all(request.data(), request.size()) ||
        !s.receive_all(&answer_size, sizeof(answer_size)) || answer_size != sizeof(answer) ||
        !s.receive_all(&answer, sizeof(answer))) {
        refuse(e.address,
               "does not answer as a ggml-rpc-server; expected one of protocol version " +
                   std::to_string(RPC_PROTO_MAJOR_VERSION) + " that serves no other client");
    }
    const linger in_order = {0, 0};
    setsockopt(s.fd(), SOL_SOCKET, SO_LINGER, &in_order, sizeof(in_order));
    if (answer.major != RPC_PROTO_MAJOR_VERSION || answer.minor > RPC_PROTO_MINOR_VERSION) {
        refuse(e.address, "speaks RPC protocol version " + std::to_string(answer.major) + "." +
                              std::to_string(answer.minor) + "; expected " +
                              std::to_string(RPC_PROTO_MAJOR_VERSION) + "." +
                              std::to_string(RPC_PROTO_MINOR_VERSION));
    }
}

} // namespace

std::vector<rpc_lease> lease_rpc_servers(const std::string & servers) {
    static std::mutex mutex;
    static std::map<std::string, std::weak_ptr<const std::string>> held;
    const std::lock_guard lock(mutex);
    static const int first_in = fork_generation();
    if (first_in != fork_generation()) { // the parent uses ggml's connections
        throw std::runtime_error("rpc_servers: \"" + servers +
                                 "\" in a process that was forked after its parent had " +
                                 "used servers" + instead_of_fork);
    }
    std::vector<rpc_lease> leases;
    // Open until all servers have answered, so that one server under two names is found to be busy
    std::vector<tcp_socket> open;
    for (const endpoint & e : parse_list(servers)) {
        rpc_lease lease = held[e.address].lock();
        if (!lease) {
            open.push_back(connect_to(e));
            greet(e, open.back());
            lease = std::make_shared<const std::string>(e.address);
        }
        leases.push_back(std::move(lease));
    }
    for (const rpc_lease & lease : leases) {
        held[*lease] = lease;
    }
    return leases;
}

} // namespace lookm

#endif
