"""The files that a Jetson's kernel shows, laid out in a folder as they lie on the board."""

import os

MEMORY = "MemTotal:        4051044 kB\nMemFree:          338740 kB\nMemAvailable:    2051044 kB\nSwapTotal:       2025520 kB\n"
STATUS = "Name:\tpython3\nVmRSS:\t  152340 kB\n"


def write(root, files):
    """Write texts to paths below a folder."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode("utf-8"))


def link(root, path, target):
    """Make a link below a folder to something else below it, as sysfs does."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).symlink_to(os.path.relpath(str(root / target), str((root / path).parent)))


def zones(root, temperatures):
    """Thermal zones by name, in thousandths of a degree; None is one that cannot be read."""
    for number, (name, value) in enumerate(temperatures):
        folder = f"sys/devices/virtual/thermal/thermal_zone{number}"
        write(root, {f"{folder}/type": name + "\n"})
        if value is None:
            (root / folder / "temp").mkdir()  # root may read every file
        else:
            write(root, {f"{folder}/temp": f"{value}\n"})
        link(root, f"sys/class/thermal/thermal_zone{number}", folder)


def nano(root):
    """A Jetson Nano with JetPack 4.6, in 10 W mode."""
    power = "sys/devices/50000000.host1x/546c0000.i2c/i2c-6/6-0040"
    gpu = "sys/devices/57000000.gpu"
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
        "proc/device-tree/compatible": "nvidia,p3449-0000-b00+p3448-0000-b00\0nvidia,jetson-nano\0nvidia,tegra210\0",
        "proc/meminfo": MEMORY,
        "proc/self/status": STATUS,
        "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64\n",
        "etc/nvpmodel.conf": "# comment\n< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_1 1\n< POWER_MODEL ID=1 NAME=5W >\n",
        "var/lib/nvpmodel/status": "pmode:0000",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1479000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        f"{gpu}/load": "250\n",
        f"{gpu}/devfreq/57000000.gpu/cur_freq": "921600000\n",
    }
    for number, (rail, milliwatts) in enumerate([("POM_5V_IN", 2875), ("POM_5V_GPU", 120), ("POM_5V_CPU", 530)]):
        files[f"{power}/iio:device0/rail_name_{number}"] = rail + "\n"
        files[f"{power}/iio:device0/in_power{number}_input"] = f"{milliwatts}\n"
        files[f"{power}/iio:device0/in_voltage{number}_input"] = "5048\n"
    write(root, files)
    link(root, "sys/bus/i2c/drivers/ina3221x/6-0040", power)
    link(root, "sys/class/devfreq/57000000.gpu", f"{gpu}/devfreq/57000000.gpu")
    link(root, f"{gpu}/devfreq/57000000.gpu/device", gpu)
    zones(root, [("AO-therm", 41500), ("CPU-therm", 34000), ("GPU-therm", 31000), ("PMIC-Die", 100000)])
    return root


def orin(root):
    """A Jetson Orin Nano with JetPack 6.2, whose supply was too weak twice."""
    power = "sys/devices/platform/bus@0/c240000.i2c/i2c-1/1-0040"
    gpu = "sys/devices/platform/bus@0/17000000.gpu"
    oc = "sys/devices/platform/soctherm-oc-event/hwmon/hwmon3"
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        "proc/meminfo": MEMORY,
        "proc/self/status": STATUS,
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
        "var/lib/nvpmodel/status": "pmode:0002",
        f"{gpu}/load": "0\n",
        f"{gpu}/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "729600000\n",
        f"{power}/hwmon/hwmon1/name": "ina3221\n",
        f"{power}/hwmon/hwmon1/in4_input": "24000\n",
        f"{power}/hwmon/hwmon1/in4_label": "Sum of shunt voltages\n",
        f"{power}/hwmon/hwmon1/curr4_input": "1520\n",
        f"{oc}/name": "soctherm_oc\n",
        f"{oc}/oc1_event_cnt": "0\n",
        f"{oc}/oc3_event_cnt": "2\n",
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "1\n",
        "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
        "sys/class/thermal/cooling_device1/cur_state": "0\n",
    }
    for cpu, kilohertz in enumerate([1728000, 729600]):
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"] = f"{kilohertz}\n"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"] = "schedutil\n"
    rails = [("VDD_IN", 5016, 1000), ("VDD_CPU_GPU_CV", 5000, 240), ("VDD_SOC", 5000, 280)]
    for number, (rail, millivolts, milliamperes) in enumerate(rails, 1):
        files[f"{power}/hwmon/hwmon1/in{number}_label"] = rail + "\n"
        files[f"{power}/hwmon/hwmon1/in{number}_input"] = f"{millivolts}\n"
        files[f"{power}/hwmon/hwmon1/curr{number}_input"] = f"{milliamperes}\n"
    write(root, files)
    link(root, "sys/bus/i2c/drivers/ina3221/1-0040", power)
    link(root, "sys/class/hwmon/hwmon1", f"{power}/hwmon/hwmon1")
    link(root, "sys/class/hwmon/hwmon3", oc)
    link(root, "sys/class/devfreq/17000000.gpu", f"{gpu}/devfreq/17000000.gpu")
    link(root, f"{gpu}/devfreq/17000000.gpu/device", gpu)
    zones(root, [("cpu-thermal", 47531), ("gpu-thermal", -256000), ("cv0-thermal", None), ("tj-thermal", 48500)])
    return root
