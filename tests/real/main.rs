//! Suites against real servers, started by `.ci/real`.

mod servers;
