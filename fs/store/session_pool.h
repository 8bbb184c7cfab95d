// SPDX-License-Identifier: Apache-2.0
// SessionPool: objects that one thread uses at a time and that are dear to make (read transactions with
// cursors), kept for the next user. Taking and giving back is one atomic exchange in the common case.
//
// (1) Any thread. A session that finds no free slot when it is given back is destroyed.
// (2) Destroyed after everything that it handed out (Held).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

namespace layerfs::store {

template <class Session, std::size_t kSlots>
class SessionPool {
 public:
  /// A session in use, which goes back to the pool.
  class Held {
   public:
    Held(SessionPool& pool, std::unique_ptr<Session> session) : pool_(&pool), session_(std::move(session)) {}
    Held(Held&& other) noexcept = default;
    Held& operator=(Held&&) = delete;
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() {
      if (session_) pool_->give_back(std::move(session_));
    }
    bool has_session() const { return session_ != nullptr; }
    Session* operator->() const { return session_.get(); }
    Session& operator*() const { return *session_; }

   private:
    SessionPool* pool_;
    std::unique_ptr<Session> session_;
  };

  SessionPool() = default;
  SessionPool(const SessionPool&) = delete;
  SessionPool& operator=(const SessionPool&) = delete;
  ~SessionPool() {
    for (auto& slot : slots_) delete slot.session.load();
  }

  /// A session that is kept, or null.
  std::unique_ptr<Session> take() {
    std::size_t start = first_slot();
    for (std::size_t i = 0; i < kSlots; ++i) {
      auto& slot = slots_[(start + i) % kSlots].session;
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      if (Session* session = slot.exchange(nullptr, std::memory_order_acquire))
        return std::unique_ptr<Session>(session);
    }
    return nullptr;
  }

  void give_back(std::unique_ptr<Session> session) {
    std::size_t start = first_slot();
    for (std::size_t i = 0; i < kSlots; ++i) {
      Session* none = nullptr;
      auto& slot = slots_[(start + i) % kSlots].session;
      if (slot.compare_exchange_strong(none, session.get(), std::memory_order_release,
                                       std::memory_order_relaxed)) {
        session.release();
        return;
      }
    }
  }

 private:
  // Each thread starts at a slot of its own, so that threads do not fight for one cache line.
  static std::size_t first_slot() {
    thread_local const std::size_t kMine = std::hash<std::thread::id>{}(std::this_thread::get_id()) >> 4;
    return kMine;
  }
  struct alignas(64) Slot {
    std::atomic<Session*> session{nullptr};
  };
  std::array<Slot, kSlots> slots_;
};

}  // namespace layerfs::store
