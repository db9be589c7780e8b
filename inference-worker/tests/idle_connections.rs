//! Ten thousand connections that say nothing, to the program as it is. Linux: memory and open files of
//! another process are read from `/proc`.

mod common;

use common::*;
use std::fs;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

const IDLE: usize = 10_000;

/// Memory that an idle connection may cost the program, bytes.
const BYTES_EACH: u64 = 32 << 10;

/// After this long without headers the program hangs up by itself.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Both tests at once would need twice the files.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Whether this process may open as many files as the test needs; says so if not. The program raises its
/// own limit to the same.
fn enough_files() -> bool {
    let limit = match fdlimit::raise_fd_limit() {
        Ok(fdlimit::Outcome::LimitRaised { to, .. }) => to,
        _ => 0,
    };
    let enough = limit > IDLE as u64 + 500;
    if !enough {
        println!("skipped: {limit} open files are allowed, and {IDLE} connections need more");
    }
    enough
}

/// Connections from several addresses, so that ports suffice; every other begins headers and stops. With
/// them, the most files that the program was seen to have open.
async fn connect(program: &mut Program, count: usize) -> (Vec<TcpStream>, usize) {
    let mut connections = Vec::with_capacity(count);
    let mut most = 0;
    for at in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        let from = ([127, 0, 0, 2 + (at % 4) as u8], 0);
        socket.bind(from.into()).unwrap();
        let mut connection = socket.connect(program.address).await.unwrap();
        if at % 2 == 0 {
            let begin = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n";
            let _ = connection.write_all(begin).await;
        }
        connections.push(connection);
        if at % 500 == 499 {
            // Answered on a connection of its own, for which all before were accepted.
            program.answers_anew().await;
            most = most.max(open_files(program));
        }
    }
    (connections, most)
}

fn open_files(program: &Program) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap();
    files.count()
}

/// Bytes of its own memory that are in use.
fn memory(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse::<u64>().unwrap() << 10
}

/// Returns once the program has hung up on all that it gives up.
async fn settle(program: &Program, most: usize) {
    eventually("fewer open files", async || {
        (open_files(program) <= most).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_idle_connections_should_cost_little_and_harm_nobody() {
    let _alone = ALONE.lock().await;
    if !enough_files() {
        return;
    }
    let mut program = Program::start(&base(), &["--max-connections", "12000"]).await;
    program.ready().await;
    program.answers().await;
    let (files, before) = (open_files(&program), memory(&program));
    let begun = Instant::now();
    let (connections, _) = connect(&mut program, IDLE).await;
    // The last ones may still wait to be accepted.
    eventually("all connections", async || {
        let all = open_files(&program) >= IDLE || begun.elapsed() > IDLE_TIMEOUT;
        all.then_some(())
    })
    .await;
    program.answers().await;
    let (held, more) = (
        open_files(&program) - files,
        memory(&program).saturating_sub(before),
    );
    if begun.elapsed() > IDLE_TIMEOUT {
        println!("skipped: this machine is so slow that the first ones were hung up on meanwhile");
        return;
    }
    let each = more / held as u64;
    println!("{held} idle connections: {more} bytes more, {each} for each");
    assert!(held >= IDLE - 10, "{held}");
    assert!(each < BYTES_EACH, "{each}");
    drop(connections);
    settle(&program, files + 10).await;
    program.answers().await;
}

#[tokio::test]
async fn ten_thousand_idle_connections_should_give_way_where_there_is_room_for_few() {
    let _alone = ALONE.lock().await;
    if !enough_files() {
        return;
    }
    let mut program = Program::start(&base(), &["--max-connections", "64"]).await;
    program.ready().await;
    program.answers().await;
    let files = open_files(&program);
    let (mut connections, most) = connect(&mut program, IDLE).await;
    // Some may be on their way out. Were there no bound, thousands would be there.
    println!("{files} open files before, {most} at most");
    assert!(most < files + 64 + 300, "{most}");
    settle(&program, files + 64).await;
    program.answers().await;
    // The first was hung up on, and learns of it.
    let ended = connections[0].read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_program_with_few_files_should_take_no_more_connections_than_it_has_files_for() {
    let _alone = ALONE.lock().await;
    let options = ["--max-connections", "2000"];
    let mut program = Program::start_with_files(320, &base(), &options).await;
    program.ready().await;
    let (connections, most) = connect(&mut program, 500).await;
    println!("{most} open files at most");
    let said = program.said();
    assert!(said.contains("room for 64 connections only"), "{said}");
    // It never ran out of them.
    assert!(!said.contains("could not be accepted"), "{said}");
    drop(connections);
}
