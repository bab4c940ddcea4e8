// What torch asks of a backend about its devices, streams and events.

#pragma once

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "simulated_time.h"

namespace {

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kSim; }

  Device exchangeDevice(Device device) const override {
    const auto previous = getDevice();
    setDevice(device);
    return previous;
  }

  Device getDevice() const override { return Device(kSim, current_device); }

  void setDevice(Device device) const override { current_device = index_of(device); }

  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.has_index() && device.index() < kDevices) {
      current_device = device.index();
    }
  }

  Stream getStream(Device device) const override { return stream_in_use(index_of(device)); }

  Stream getDefaultStream(Device device) const override { return as_stream(index_of(device), 0); }

  Stream getStreamFromGlobalPool(Device device, bool) const override {
    const auto index = index_of(device);
    std::lock_guard lock(simulation().mutex);
    return as_stream(index, 1 + simulation().devices[index].handed_out++ % kPooledStreams);
  }

  Stream getNewStream(Device device, int) const override {
    return getStreamFromGlobalPool(device, false);
  }

  Stream exchangeStream(Stream stream) const override {
    const auto previous = stream_in_use(checked(stream.device_index()));
    current_stream[stream.device_index()] = stream.id();
    return previous;
  }

  void* getStreamNativeHandle(const Stream stream) const override {
    return reinterpret_cast<void*>(stream.id());
  }

  void destroyEvent(void* event, const DeviceIndex) const noexcept override {
    delete static_cast<SimEvent*>(event);
  }

  void record(void** event, const Stream& stream, const DeviceIndex index,
              const c10::EventFlag) const override {
    TORCH_CHECK(index == -1 || index == stream.device_index(), "Event device ",
                static_cast<int>(index), " does not match the stream's device ",
                static_cast<int>(stream.device_index()));
    std::lock_guard lock(simulation().mutex);
    const SimEvent recorded{std::max(now_ns(), busy_until(stream)), stream.device_index()};
    if (*event == nullptr) {
      *event = new SimEvent(recorded);
    } else {
      *static_cast<SimEvent*>(*event) = recorded;
    }
  }

  void block(void* event, const Stream& stream) const override {
    wait_on_device(stream, read(event).time);
  }

  bool queryEvent(void* event) const override {
    const auto recorded = read(event);
    return finished(recorded.device, recorded.time);
  }

  DeviceIndex deviceCount() const noexcept override { return kDevices; }

  bool queryStream(const Stream& stream) const override {
    return finished(stream.device_index(), end_of(stream));
  }

  void synchronizeStream(const Stream& stream) const override { synchronize(stream); }

  void synchronizeEvent(void* event) const override {
    const auto recorded = read(event);
    synchronize_until(recorded.device, recorded.time);
  }

  void synchronizeDevice(const DeviceIndex device) const override { synchronize_device(device); }

  c10::DeviceCapability getDeviceCapability(Device) const override { return {}; }

  double elapsedTime(void* event1, void* event2, const DeviceIndex) const override {
    return static_cast<double>(read(event2).time - read(event1).time) / 1e6;
  }

 private:
  static SimEvent read(void* event) {
    std::lock_guard lock(simulation().mutex);
    return *static_cast<SimEvent*>(event);
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

}  // namespace
