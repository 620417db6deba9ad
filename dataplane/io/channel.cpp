#include "dataplane/io/channel.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "dataplane.pb.h"
#include "dataplane/api/wire.h"

namespace detour::io {
namespace {

using api::ErrorCode;

constexpr std::size_t kMaxClients = 8;
constexpr int kBacklog = 8;

tl::unexpected<api::Error> system_error(const std::string& doing) {
    return api::fail(ErrorCode::kSystem, doing, std::generic_category().message(errno));
}

// True when somebody accepts connections there.
bool is_alive(const sockaddr_un& address) {
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

api::Result<Descriptor> listen_on(const std::string& path) {
    const std::string doing = "opening the control socket " + path;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return api::fail(ErrorCode::kInvalidArgument, doing, "the path is too long for a Unix socket");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
    if (is_alive(address)) return api::fail(ErrorCode::kRefused, doing, "another process listens there");
    ::unlink(path.c_str());
    Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener.valid()) return system_error(doing);
    // Narrow from the first moment: chmod after bind would leave a gap. No other thread makes files now.
    const mode_t before = ::umask(0177);
    const int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    ::umask(before);
    if (bound != 0 || ::listen(listener.get(), kBacklog) != 0) return system_error(doing);
    return listener;
}

std::string answer(RequestHandler& handler, const wire::Request& request) {
    wire::Reply reply;
    handler.handle(request, reply);
    return reply.SerializeAsString();
}

std::string refuse_garbage() {
    wire::Reply reply;
    api::encode(api::Error{ErrorCode::kInvalidArgument, "reading a request", "the message does not parse"},
                *reply.mutable_failure());
    return reply.SerializeAsString();
}

}  // namespace

api::Result<std::unique_ptr<Channel>> Channel::open(const std::string& path, RequestHandler& handler) {
    auto listener = listen_on(path);
    if (!listener) return tl::unexpected(listener.error());
    Descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake.valid()) return system_error("opening the control channel");
    return std::unique_ptr<Channel>(new Channel(path, *std::move(listener), std::move(wake), handler));
}

Channel::Channel(std::string path, Descriptor listener, Descriptor wake, RequestHandler& handler)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      handler_(handler),
      poller_([this] { run(); }),
      builder_([this] { build(); }) {}

Channel::~Channel() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    work_.notify_one();
    wake();
    builder_.join();
    poller_.join();
    ::unlink(path_.c_str());
}

void Channel::wake() const noexcept {
    ::eventfd_write(wake_.get(), 1);
}

void Channel::run() {
    std::vector<pollfd> polled;
    for (;;) {
        {
            const std::lock_guard lock(mutex_);
            if (ending_) return;
        }
        polled.assign({{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}});
        for (const auto& client : clients_) polled.push_back({client->fd(), client->interest(), 0});
        if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
            spdlog::error("the control channel stops: {}", std::generic_category().message(errno));
            return;
        }
        for (std::size_t i = 0; i < clients_.size(); ++i) serve(*clients_[i], polled[i + 2].revents);
        if (polled[0].revents != 0) take_results();
        std::erase_if(clients_, [](const auto& client) { return client->finished(); });
        if (polled[1].revents != 0) accept_client();
    }
}

void Channel::accept_client() {
    Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    if (clients_.size() >= kMaxClients) {
        spdlog::warn("a connection to the control channel was closed: {} are open", clients_.size());
        return;
    }
    clients_.push_back(std::make_unique<ChannelClient>(next_client_++, std::move(socket)));
}

void Channel::serve(ChannelClient& client, short events) {
    if (events == 0) return;
    client.on_events(events);
    client.send();
    take_requests(client);
}

void Channel::take_requests(ChannelClient& client) {
    while (auto bytes = client.next_request()) {
        const std::uint64_t slot = client.open_slot();
        wire::Request request;
        if (!request.ParseFromString(*bytes)) {
            client.fill_slot(slot, refuse_garbage());
            client.stop_reading();
            client.send();
            return;
        }
        if (RequestHandler::overtakes(request)) {
            client.fill_slot(slot, answer(handler_, request));
            client.send();
            continue;
        }
        {
            const std::lock_guard lock(mutex_);
            jobs_.push_back({client.id(), slot, *std::move(bytes)});
        }
        work_.notify_one();
    }
}

void Channel::build() {
    std::unique_lock lock(mutex_);
    for (;;) {
        work_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
        if (ending_) return;
        const Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        wire::Request request;
        request.ParseFromString(job.request);
        std::string reply = answer(handler_, request);
        lock.lock();
        done_.push_back({job.client, job.slot, std::move(reply)});
        wake();
    }
}

void Channel::take_results() {
    eventfd_t ignored = 0;
    ::eventfd_read(wake_.get(), &ignored);
    std::deque<Done> done;
    {
        const std::lock_guard lock(mutex_);
        done.swap(done_);
    }
    for (const Done& result : done) {
        const auto client = std::find_if(clients_.begin(), clients_.end(),
                                         [&](const auto& c) { return c->id() == result.client; });
        // Gone while its request was being handled: nobody is left to tell.
        if (client == clients_.end()) continue;
        (*client)->fill_slot(result.slot, result.reply);
        (*client)->send();
        // A slot is free again: requests that waited for one.
        take_requests(**client);
    }
}

}  // namespace detour::io
