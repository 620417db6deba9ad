#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "config/duration.h"
#include "control/app/hook.h"

namespace detour::app {

namespace {

namespace asio = boost::asio;
using boost::system::error_code;

/// What posix_spawn() wants, released in any case.
struct SpawnOptions {
    SpawnOptions() {
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_init(&actions);
    }
    ~SpawnOptions() {
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
    }
    SpawnOptions(const SpawnOptions&) = delete;
    SpawnOptions& operator=(const SpawnOptions&) = delete;

    /// `output`: the pipe's end for what the command says.
    void set(int output) {
        sigset_t none;
        sigset_t all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setflags(&attributes,
                                 POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
        posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
        posix_spawn_file_actions_addchdir_np(&actions, "/");
    }

    posix_spawnattr_t attributes{};
    posix_spawn_file_actions_t actions{};
};

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> out;
    for (std::string& word : words) out.push_back(word.data());
    out.push_back(nullptr);
    return out;
}

/// The process's id, or the negative errno.
pid_t spawn(HookOrder& order, int output) {
    std::vector<std::string> environment{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                         "LANG=C.UTF-8", "DETOUR_SITE=" + order.site,
                                         "DETOUR_POP=" + order.pop};
    SpawnOptions options;
    options.set(output);
    pid_t pid = 0;
    const int error =
        posix_spawn(&pid, order.activation.command.front().c_str(), &options.actions, &options.attributes,
                    pointers(order.activation.command).data(), pointers(environment).data());
    return error == 0 ? pid : -error;
}

class CommandRun : public Hook, public std::enable_shared_from_this<CommandRun> {
  public:
    CommandRun(asio::io_context& io, HookOrder order, HookDone done)
        : io_(io),
          order_(std::move(order)),
          done_(std::move(done)),
          exited_(io),
          output_(io),
          deadline_(io) {}

    void start() {
        std::array<int, 2> pipe{};
        if (pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail(errno);
        output_.assign(pipe[0]);
        // What the command writes to waits for it when it is full, as any program expects.
        (void)fcntl(pipe[1], F_SETFL, 0);
        pid_ = spawn(order_, pipe[1]);
        close(pipe[1]);
        if (pid_ < 0) return fail(-pid_);
        const int watched = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
        if (watched < 0) {
            const int error = errno;
            kill(-pid_, SIGKILL);
            (void)waitpid(pid_, nullptr, 0);
            return fail(error);
        }
        exited_.assign(watched);
        watch();
    }

    void stop() override {
        done_ = nullptr;
        error_code ignored;
        exited_.close(ignored);
        output_.close(ignored);
        deadline_.cancel();
    }

  private:
    void watch() {
        const auto self = shared_from_this();
        read();
        exited_.async_wait(asio::posix::stream_descriptor::wait_read, [self](const error_code& ec) {
            if (!ec) self->on_exit();
        });
        deadline_.expires_after(order_.activation.deadline);
        deadline_.async_wait([self](const error_code& ec) {
            if (ec || !self->done_) return;
            self->late_ = true;
            kill(-self->pid_, SIGKILL);  // its end wakes on_exit()
        });
    }

    void read() {
        output_.async_read_some(asio::buffer(buffer_),
                                [self = shared_from_this()](const error_code& ec, std::size_t size) {
                                    if (ec) return;
                                    self->keep(size);
                                    self->read();
                                });
    }

    /// Reads on when it has enough: a command that can't write would wait for ever.
    void keep(std::size_t size) {
        const std::size_t room = kMaxHookOutput - std::min(kMaxHookOutput, text_.size());
        text_.append(buffer_.data(), std::min(size, room));
    }

    void on_exit() {
        if (!done_) return;
        int status = 0;
        (void)waitpid(pid_, &status, 0);
        ssize_t size = 0;
        while ((size = ::read(output_.native_handle(), buffer_.data(), buffer_.size())) > 0 &&
               text_.size() < kMaxHookOutput)
            keep(static_cast<std::size_t>(size));
        HookResult result;
        result.good = !late_ && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (late_)
            result.how = "killed at its deadline of " + config::duration_text(order_.activation.deadline);
        else if (WIFEXITED(status))
            result.how = "exit status " + std::to_string(WEXITSTATUS(status));
        else
            result.how = std::string("ended by signal ") + strsignal(WTERMSIG(status));
        finish(std::move(result));
    }

    void fail(int error) {
        finish({false, order_.activation.command.front() + " can't be started: " + std::strerror(error), {}});
    }

    void finish(HookResult result) {
        result.output = one_line(text_);
        asio::post(io_, [self = shared_from_this(), result = std::move(result)] {
            const HookDone done = std::exchange(self->done_, nullptr);
            self->stop();
            if (done) done(result);
        });
    }

    asio::io_context& io_;
    HookOrder order_;
    HookDone done_;
    asio::posix::stream_descriptor exited_;
    asio::posix::stream_descriptor output_;
    asio::steady_timer deadline_;
    std::array<char, 4096> buffer_{};
    std::string text_;
    pid_t pid_ = 0;
    bool late_ = false;
};

}  // namespace

std::shared_ptr<Hook> run_command(asio::io_context& io, HookOrder order, HookDone done) {
    auto run = std::make_shared<CommandRun>(io, std::move(order), std::move(done));
    run->start();
    return run;
}

std::shared_ptr<Hook> run_hook(asio::io_context& io, HookOrder order, HookDone done) {
    if (!order.activation.command.empty()) return run_command(io, std::move(order), std::move(done));
    return send_request(io, std::move(order), std::move(done));
}

std::string one_line(std::string text) {
    text.resize(std::min(text.size(), kMaxHookOutput));
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

}  // namespace detour::app
