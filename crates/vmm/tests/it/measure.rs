use super::*;
fn breakdown(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut found: Vec<(u64, String)> = vec![];
    let mut name = String::new();
    for l in text.lines() {
        let w: Vec<&str> = l.split_whitespace().collect();
        if w[0].contains('-') && !w[0].ends_with(':') {
            name = format!("{} {} {}", w[1], w.get(5).unwrap_or(&"anon"), {
                let (a, b) = w[0].split_once('-').unwrap();
                (u64::from_str_radix(b, 16).unwrap() - u64::from_str_radix(a, 16).unwrap()) / 1024
            });
        }
        if w[0] == "Private_Dirty:" {
            let k: u64 = w[1].parse().unwrap();
            if k > 300 {
                found.push((k, name.clone()));
            }
        }
    }
    found.sort();
    found.reverse();
    format!("{found:#?}")
}
fn stats(name: &str, mut v: Vec<f64>) {
    v.sort_by(f64::total_cmp);
    eprintln!("{name:40} min {:7.1} median {:7.1} max {:7.1}", v[0], v[v.len() / 2], v[v.len() - 1]);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure() {
    if std::env::var_os("MEASURE").is_none() {
        return;
    }
    let host = Host::new().await;
    let base = host.make_base().await;
    let n = 10;
    let ms = |i: Instant| i.elapsed().as_secs_f64() * 1e3;
    for fill in [0usize, 5, 64] {
        let name = format!("m{fill}");
        let (mut rest, mut cont, mut ans, mut pause, mut snap, mut gone, mut mem, mut rest2, mut kib) =
            (vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for i in 0..n {
            // fresh clone
            let _ = fs::remove_dir_all(host.path(&name));
            let directory = host.make_dir(&name);
            create_overlay(&host.path("disk"), &directory.join("overlay")).unwrap();
            let spec = || {
                host.spec(
                    &name,
                    DriveImage::Overlay { base: host.path("disk"), overlay: directory.join("overlay") },
                )
            };
            let s = spec();
            let t = Instant::now();
            let vm = host.qemu.restore(s, &base, &directory).await.unwrap();
            rest.push(ms(t));
            let t2 = Instant::now();
            vm.resume().await.unwrap();
            cont.push(ms(t2));
            wait_until_ready(&*vm).await;
            ans.push(ms(t));
            if fill > 0 {
                ask(&*vm, &format!("fill {fill} {i}")).await.unwrap();
            }
            if i == n - 1 {
                eprintln!("{}", breakdown(vm.pid().unwrap()));
            }
            kib.push(private_kib(vm.pid().unwrap()) as f64);
            let t = Instant::now();
            vm.pause().await.unwrap();
            pause.push(ms(t));
            let t = Instant::now();
            let info =
                vm.create_snapshot(&SnapshotTarget::Layer { directory: host.path(&name) }).await.unwrap();
            snap.push(ms(t));
            mem.push(info.memory_bytes as f64 / 1e6);
            let t = Instant::now();
            vm.kill().await.unwrap();
            gone.push(ms(t));
            let s = spec();
            let t = Instant::now();
            let vm = host.qemu.restore(s, &base, &directory).await.unwrap();
            rest2.push(ms(t));
            vm.resume().await.unwrap();
            wait_until_ready(&*vm).await;
            vm.kill().await.unwrap();
        }
        eprintln!("--- fill {fill}");
        stats("restore base", rest);
        stats("cont", cont);
        stats("launch to answer", ans);
        stats("pause", pause);
        stats("layer snapshot", snap);
        stats("kill", gone);
        stats("layer MB", mem);
        stats("restore with layer", rest2);
        stats("private KiB", kib);
    }
}
