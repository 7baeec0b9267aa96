import json

import pytest

from edgeclf_runtime.device.telemetry import PowerMeter, read_telemetry, throttled
from tests.support.boards import nano, orin, write
from tests.support.processes import becomes_true

HOUR_S = 3600.0
PACKAGE = "sys/class/powercap/intel-rapl:0"
OC3 = "sys/class/hwmon/hwmon3/oc3_event_cnt"
ALERT = "sys/class/thermal/cooling_device1/cur_state"


def rapl(root, microjoules):
    write(
        root,
        {
            f"{PACKAGE}/name": "package-0\n",
            f"{PACKAGE}/energy_uj": f"{microjoules}\n",
            f"{PACKAGE}/max_energy_range_uj": "9999999\n",
            # The package includes both, or they count it again.
            "sys/class/powercap/intel-rapl:0:0/name": "core\n",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "77\n",
            "sys/class/powercap/intel-rapl:1/name": "psys\n",
            "sys/class/powercap/intel-rapl:1/energy_uj": "99\n",
        },
    )
    return root


def test_a_nano_with_jetpack_4_is_read(tmp_path):
    look = read_telemetry(str(nano(tmp_path)))
    assert look.power_mw == {"POM_5V_IN": 2875, "POM_5V_GPU": 120, "POM_5V_CPU": 530}
    assert look.power_total_mw == 2875
    assert look.temperature_c == {"AO-therm": 41.5, "CPU-therm": 34, "GPU-therm": 31}
    assert look.cpu_mhz == {"cpu0": 1479}
    assert look.gpu_mhz == pytest.approx(921.6)
    assert look.gpu_load == 0.25
    assert look.memory_total_mb == pytest.approx(4148.269)
    assert look.memory_used_mb == pytest.approx(2048)
    assert look.rss_mb == pytest.approx(155.996, abs=1e-3)
    assert (look.throttle_events, look.throttle_alerts) == ({}, {})


def test_an_orin_with_jetpack_6_is_read(tmp_path):
    look = read_telemetry(str(orin(tmp_path)))
    assert look.power_mw == {"VDD_IN": 5016, "VDD_CPU_GPU_CV": 1200, "VDD_SOC": 1400}
    assert look.power_total_mw == 5016
    assert look.throttle_events == {"oc1": 0, "oc3": 2}
    assert look.throttle_alerts == {"gpu-throttle-alert": 0}
    assert look.cpu_mhz == {"cpu0": 1728, "cpu1": pytest.approx(729.6)}
    assert (look.gpu_mhz, look.gpu_load) == (306, 0)


def test_a_sensor_that_is_off_or_unreadable_is_unknown_and_not_zero(tmp_path):
    look = read_telemetry(str(orin(tmp_path)))
    assert look.temperature_c == {
        "cpu-thermal": pytest.approx(47.531),
        "gpu-thermal": None,
        "cv0-thermal": None,
        "tj-thermal": 48.5,
    }
    (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()
    write(tmp_path, {"sys/class/hwmon/hwmon1/curr2_input": "garbage\n"})
    look = read_telemetry(str(tmp_path))
    assert look.power_mw == {"VDD_IN": None, "VDD_CPU_GPU_CV": None, "VDD_SOC": 1400}
    assert look.power_total_mw is None


def test_an_agx_orin_draws_what_its_three_input_rails_draw(tmp_path):
    rails = {"1-0040": ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], "1-0041": ["NC", "VDDQ_VDD2_1V8AO", "NC"]}
    for number, (chip, names) in enumerate(rails.items()):
        for channel, name in enumerate(names, 1):
            folder = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{number}"
            values = {f"in{channel}_label": name, f"in{channel}_input": "5000", f"curr{channel}_input": "1000"}
            write(tmp_path, {f"{folder}/{file}": value for file, value in values.items()})
    look = read_telemetry(str(tmp_path))
    assert look.power_total_mw == 15000
    assert look.power_mw["VDDQ_VDD2_1V8AO"] == 5000
    assert "NC" not in look.power_mw


def test_a_thor_draws_what_its_input_monitor_says(tmp_path):
    folder = "sys/class/hwmon/hwmon2"
    write(tmp_path, {f"{folder}/name": "ina238\n", f"{folder}/power1_input": "39500000\n"})
    assert read_telemetry(str(tmp_path)).power_total_mw == 39500


def test_two_zones_of_one_name_are_both_there(tmp_path):
    for number in (0, 1):
        folder = f"sys/class/thermal/thermal_zone{number}"
        write(tmp_path, {f"{folder}/type": "acpitz\n", f"{folder}/temp": f"{30 + number}000\n"})
    assert read_telemetry(str(tmp_path)).temperature_c == {"acpitz": 30, "acpitz (thermal_zone1)": 31}


def test_a_machine_that_shows_nothing_is_unknown(tmp_path):
    look = read_telemetry(str(tmp_path))
    assert not any(look)
    assert 0 not in look
    assert json.loads(json.dumps(look.to_dict()))["power_total_mw"] is None


def test_this_machine_is_read():
    look = read_telemetry()
    assert 0 < look.memory_used_mb < look.memory_total_mb
    assert 1 < look.rss_mb < look.memory_total_mb
    assert json.loads(json.dumps(look.to_dict())) == look.to_dict()


def test_a_counter_that_rose_is_throttling(tmp_path):
    before = read_telemetry(str(orin(tmp_path)))
    assert throttled(before, read_telemetry(str(tmp_path))) is False
    write(tmp_path, {OC3: "3\n"})
    assert throttled(before, read_telemetry(str(tmp_path))) is True


def test_an_alert_that_is_on_is_throttling(tmp_path):
    before = read_telemetry(str(orin(tmp_path)))
    write(tmp_path, {ALERT: "1\n"})
    assert throttled(before, read_telemetry(str(tmp_path))) is True


def test_whether_a_machine_without_counters_throttles_is_unknown(tmp_path):
    look = read_telemetry(str(nano(tmp_path)))
    assert throttled(look, look) is None


def test_energy_is_power_over_time(tmp_path):
    with PowerMeter(str(nano(tmp_path)), HOUR_S) as meter:
        pass
    assert meter.samples == 2
    assert 0 < meter.energy_j <= 2.875 * meter.seconds


def test_a_meter_reads_power_while_it_runs(tmp_path):
    meter = PowerMeter(str(nano(tmp_path)), 0.001).start()
    assert becomes_true(lambda: meter.samples >= 4)
    assert meter.stop() <= 2.875 * meter.seconds
    assert meter.samples >= 5


def test_energy_is_unknown_if_power_cannot_be_read(tmp_path):
    with PowerMeter(str(tmp_path)) as meter:
        pass
    assert meter.energy_j is None
    with PowerMeter(str(nano(tmp_path)), HOUR_S) as meter:
        (tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input").unlink()
    assert meter.energy_j is None


def test_a_pc_is_measured_by_the_counter_of_its_processor(tmp_path):
    with PowerMeter(str(rapl(tmp_path, 1000000)), HOUR_S) as meter:
        rapl(tmp_path, 3500000)
    assert meter.energy_j == pytest.approx(2.5)


def test_a_counter_that_started_over_is_understood(tmp_path):
    with PowerMeter(str(rapl(tmp_path, 9000000)), HOUR_S) as meter:
        rapl(tmp_path, 500000)
    assert meter.energy_j == pytest.approx(1.5)


def test_a_meter_may_be_stopped_without_a_start_of_its_thread(tmp_path):
    meter = PowerMeter(str(tmp_path)).start()
    assert (meter.stop(), meter.stop()) == (None, None)


def test_energy_is_unknown_if_a_pcs_rail_disappears_while_it_is_measured(tmp_path):
    monitor = tmp_path / "sys/class/hwmon/hwmon0"
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "ina238\n", "sys/class/hwmon/hwmon0/power1_input": "5000000\n"})
    with PowerMeter(str(rapl(tmp_path, 1000000)), HOUR_S) as meter:
        (monitor / "power1_input").unlink()
    assert meter.samples == 1
    assert meter.energy_j is None
