//! The task service of a shim, one for all containers of a sandbox.

use std::fmt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{fs, process, thread};

use prost::Message;

use super::messages::{
    ConnectResponse, CreateTaskRequest, DeleteResponse, Empty, PidResponse, PidsResponse, ProcessRequest,
    StateResponse, Status, UpdateTaskRequest, WaitResponse,
};
use super::sandbox::{Container, Sandbox};
use super::spec::{Resources, Spec};
use super::ttrpc::{self, Failure, NOT_FOUND, UNIMPLEMENTED};

#[derive(Debug, Default)]
struct Shim {
    /// Held over all of a create, as Kata's is.
    sandbox: Mutex<Option<Sandbox>>,
    /// Something has stopped.
    stopped: Condvar,
}

/// Serves until the last container is gone and containerd says so.
pub(super) fn serve(listener: UnixListener) -> Result<(), String> {
    let shim = Arc::new(Shim::default());
    for stream in listener.incoming() {
        let stream = stream.map_err(|e| format!("accept: {e}"))?;
        let shim = Arc::clone(&shim);
        // It ends with the connection, for whatever reason.
        thread::spawn(move || drop(ttrpc::serve(stream, &shim)));
    }
    Ok(())
}

impl ttrpc::Service for Shim {
    fn call(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        match method {
            "Create" => self.create(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "Start" => self.start(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "State" => self.state(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "Wait" => self.wait(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "Kill" => self.kill(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "Delete" => self.delete(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "Update" => self.update(&parse(payload)?).map(|answer| answer.encode_to_vec()),
            "Pids" => {
                let pid = self.vmm();
                Ok(PidsResponse { processes: vec![PidResponse { pid }] }.encode_to_vec())
            }
            "Connect" => {
                Ok(ConnectResponse { shim_pid: process::id(), task_pid: self.vmm() }.encode_to_vec())
            }
            "Shutdown" | "CloseIO" => Ok(Vec::new()),
            _ => Err(Failure::new(UNIMPLEMENTED, format!("{method} is not implemented"))),
        }
    }

    fn answered(&self, method: &str) {
        let mut sandbox = self.lock();
        if method == "Shutdown" && sandbox.as_ref().is_none_or(|it| it.containers.is_empty()) {
            if let Some(sandbox) = sandbox.as_mut() {
                sandbox.stop();
            }
            if let Ok(address) = fs::read_to_string("address") {
                let _ = fs::remove_file(address.trim_start_matches("unix://"));
            }
            process::exit(0);
        }
    }
}

impl Shim {
    fn lock(&self) -> MutexGuard<'_, Option<Sandbox>> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vmm(&self) -> u32 {
        self.lock().as_ref().map_or(0, Sandbox::pid)
    }

    /// Does something with a container's sandbox.
    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Sandbox) -> Result<T, String>) -> Result<T, Failure> {
        let mut guard = self.lock();
        let sandbox = guard.as_mut().filter(|sandbox| sandbox.containers.contains_key(id));
        Ok(act(sandbox.ok_or_else(|| not_found(id))?)?)
    }

    fn create(&self, request: &CreateTaskRequest) -> Result<PidResponse, Failure> {
        let spec = Spec::load(Path::new(&request.bundle))?;
        let mut sandbox = self.lock();
        match (sandbox.as_mut(), spec.is_sandbox()) {
            (None, true) => *sandbox = Some(Sandbox::create(request, spec)?),
            (Some(sandbox), false) => sandbox.create_container(request, spec)?,
            (Some(sandbox), true) => {
                return Err(format!("cannot create another sandbox in sandbox: {}", sandbox.id).into());
            }
            (None, false) => {
                let why = "BUG: Cannot start the container, since the sandbox hasn't been created";
                return Err(why.to_owned().into());
            }
        }
        Ok(PidResponse { pid: sandbox.as_ref().map_or(0, Sandbox::pid) })
    }

    fn start(&self, request: &ProcessRequest) -> Result<PidResponse, Failure> {
        no_exec(request)?;
        self.with(&request.id, |sandbox| {
            sandbox.start(&request.id)?;
            Ok(PidResponse { pid: sandbox.pid() })
        })
    }

    fn state(&self, request: &ProcessRequest) -> Result<StateResponse, Failure> {
        no_exec(request)?;
        self.with(&request.id, |sandbox| {
            let container = &sandbox.containers[&request.id];
            Ok(StateResponse {
                id: request.id.clone(),
                bundle: container.bundle.clone(),
                pid: sandbox.pid(),
                status: container.status as i32,
                exit_status: container.exit,
                exited_at: container.exited_at.map(Into::into),
            })
        })
    }

    fn wait(&self, request: &ProcessRequest) -> Result<WaitResponse, Failure> {
        no_exec(request)?;
        let mut guard = self.lock();
        loop {
            let container = guard.as_ref().and_then(|sandbox| sandbox.containers.get(&request.id));
            let container = container.ok_or_else(|| not_found(&request.id))?;
            if container.status == Status::Stopped {
                let exited_at = container.exited_at.map(Into::into);
                return Ok(WaitResponse { exit_status: container.exit, exited_at });
            }
            guard = self.stopped.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn kill(&self, request: &ProcessRequest) -> Result<Empty, Failure> {
        no_exec(request)?;
        let done = self.with(&request.id, |sandbox| sandbox.end(&request.id, request.signal));
        self.stopped.notify_all();
        done.map(|()| Empty {})
    }

    fn delete(&self, request: &ProcessRequest) -> Result<DeleteResponse, Failure> {
        no_exec(request)?;
        let (pid, gone) =
            self.with(&request.id, |sandbox| Ok((sandbox.pid(), sandbox.delete(&request.id)?)))?;
        let exit = gone.as_ref().map_or((0, None), |it: &Container| (it.exit, it.exited_at));
        self.stopped.notify_all();
        Ok(DeleteResponse { pid, exit_status: exit.0, exited_at: exit.1.map(Into::into) })
    }

    fn update(&self, request: &UpdateTaskRequest) -> Result<Empty, Failure> {
        let json = request.resources.as_ref().map_or(b"{}".as_slice(), |any| &any.value);
        let resources: Resources = serde_json::from_slice(json).map_err(broken)?;
        self.with(&request.id, |sandbox| sandbox.update(&request.id, resources)).map(|()| Empty {})
    }
}

fn no_exec(request: &ProcessRequest) -> Result<(), Failure> {
    if request.exec_id.is_empty() { Ok(()) } else { Err(not_found(&request.exec_id)) }
}

fn not_found(id: &str) -> Failure {
    Failure::new(NOT_FOUND, format!("{id}: not found"))
}

fn parse<M: Message + Default>(payload: &[u8]) -> Result<M, Failure> {
    M::decode(payload).map_err(broken)
}

fn broken(why: impl fmt::Display) -> Failure {
    Failure::from(format!("a message that is none: {why}"))
}
