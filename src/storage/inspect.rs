//! `ringmq store`: what is in a data directory, without a broker.
